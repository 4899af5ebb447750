"""Where data come from, one file a source; edgeticket.data checks and splits what they give."""
