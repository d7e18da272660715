"""What the settings of a family of methods have in common: functions that the configs call."""
