"""State that a build keeps between runs: plan, ledger, manifest, locks, remote store. Independent of the stages."""
