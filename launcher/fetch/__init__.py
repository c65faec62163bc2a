"""What a run needs of the Hub, brought here before a GPU is held: looked up and downloaded by a
child, proved by another one that has no network.
"""
