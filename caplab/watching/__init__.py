"""What stands between training and users? A guard while training, a gate before shipping."""
