"""What do the commands do?"""
