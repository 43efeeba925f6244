"""Are another implementation's operators right? Cases with answers, wrong recurrences, and a judge who uses words."""
