"""What a change of provider files changes in requests, refusals and readings; nothing is sent."""
