"""The two regression gates: does the code answer as it did, and does the recipe still train as it did?"""
