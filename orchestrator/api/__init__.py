"""What a notebook or a script calls, and the command line with it: the verbs as functions, and a run as an object.

`orchestrator/__init__.py` names what is here. Bad input is always BadInput, whichever layer found it. Each function
imports what it needs when it is called.
"""
