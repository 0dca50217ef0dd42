"""The search itself: brackets, policy, ledger. Pure: knows nothing of Ray, torch, disk or clock."""
