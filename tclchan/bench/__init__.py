"""``tclchan bench``: Tcl's ``socket`` and ``socket2`` under the same load, in turns.

`workloads` has what is measured, `contenders` and `marks` what it is measured on, `server` and
`load` the two sides of a measurement, `rounds` their order, and `report` and `plot` what comes out.
"""
