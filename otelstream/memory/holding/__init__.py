"""What ``holders.py`` walks on: how one object holds another, and what that is called."""
