"""What is it asked, what is it taught?"""
