# The other side of talker.py.

# talk LINE --
#	Print a line; then, for ever, print the result of each line of standard input, which is a
#	script. The end of that ends the process.
proc talk {line} {
    puts $line
    flush stdout
    fileevent stdin readable {
        if {[gets stdin command] < 0} {
            exit
        }
        puts [eval $command]
        flush stdout
    }
    vwait forever
}
