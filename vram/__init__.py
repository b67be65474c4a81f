"""Who may be on the GPU: policy, scheduler, arbiter, ledger and device. Knows nothing of HTTP or of any runtime."""
