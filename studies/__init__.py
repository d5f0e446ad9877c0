"""What was measured once to decide something. Run by hand; nothing in local_eval imports it."""
