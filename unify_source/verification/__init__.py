"""`verify`: does every table hold what the API shows, and how what differs is mended."""
