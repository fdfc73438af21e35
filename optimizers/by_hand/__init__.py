"""Appendix D's networks with what they are said to be able to do put in by hand."""
