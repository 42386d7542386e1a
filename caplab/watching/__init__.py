"""What stands between training and users?"""
