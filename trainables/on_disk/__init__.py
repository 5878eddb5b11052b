"""Images that stay on the disk, because they would fill the memory."""
