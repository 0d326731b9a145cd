"""`verify`: compares every table with the API, and repairs what differs."""
