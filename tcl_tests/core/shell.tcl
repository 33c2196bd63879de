# What a tclsh does with its arguments, for a program that can only run a script: it sources the
# file that they name, or evaluates the commands that come from its standard input.

apply {{} {
    global argv0 argv argc
    set encoding {}
    if {[lindex $argv 0] eq "-encoding"} {
        set argv [lassign $argv option encoding]
        set encoding [list -encoding $encoding]
    }
    if {[llength $argv]} {
        set argv [lassign $argv argv0]
        set argc [llength $argv]
        return [uplevel #0 [list source {*}$encoding $argv0]]
    }
    set commands ""
    while {[gets stdin line] >= 0} {
        append commands $line \n
        if {[info complete $commands]} {
            set complete $commands
            set commands ""
            if {[catch {uplevel #0 $complete} message]} {
                puts stderr $message
            }
        }
    }
}}
