"""The two regression gates: does the code give the same answers, and does the recipe train as well as before?"""

STATUS_HELP = (
    "Exit status: 0; 1 worse; 2 an error; 4 refused, nothing was compared; 5 changed answers on the same processor."
)
