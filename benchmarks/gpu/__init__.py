"""`make gpu`: what a GPU does with this suite, checked and measured in one run of some minutes."""
