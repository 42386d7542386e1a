"""What do lessons call?"""
