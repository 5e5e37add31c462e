"""The right to commit, for tests that commit units without a whole run."""

from build.state.lock import sole_run


def lease_for(work):
    """Return a lease that lasts until another run begins."""
    with sole_run(work) as lease:
        return lease
