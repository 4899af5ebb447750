"""Where data come from, one file a source, and how they are checked, split and looked over for edgeticket.data."""
