"""The two regression gates: does the code answer as it did, and does the recipe still train as it did?"""

STATUS_HELP = (
    "Exit status: 0; 1 worse; 2 an error; 4 refused, nothing was compared; 5 changed answers on the same processor."
)
