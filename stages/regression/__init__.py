"""The two regression gates: does the code give the same answers, and does the recipe train as well as before?"""
