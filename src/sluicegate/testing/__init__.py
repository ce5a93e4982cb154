"""Test tools as product: what users of sluicegate need to test their own tools and clients."""
