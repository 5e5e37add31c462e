"""What a build remembers between runs: plan, ledger, manifest, locks, remote store. Knows no network and no stage."""
