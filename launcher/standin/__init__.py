"""What stands for a model that is not on this machine, and may not be downloaded: small, and made
here.
"""
