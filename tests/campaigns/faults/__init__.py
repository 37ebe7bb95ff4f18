"""What is needed to break a run at any system call, and to judge what it leaves behind."""
