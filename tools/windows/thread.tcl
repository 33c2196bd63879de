# The part of the package Thread that the tests use, for a Tcl that has none: made of the command
# with which Tcl tests its own threads, testthread. The commands for channels are in thread.c.

package provide Thread 2.8

namespace eval ::thread {
    # How to have all this in another thread.
    variable load [list \
        [list load [file join [file dirname [info script]] thread.dll] Tcltest] \
        [list source [info script]] \
        {trace add execution ::interp enter {apply {args {
            set ::env(TCL_LIBRARY) $::tcl_library
        }}}} \
        {trace add execution ::interp leave {apply {args {
            unset -nocomplain ::env(TCL_LIBRARY)
        }}}}]
    variable released
    eval [lindex $load 0]
}

proc ::thread::id {} {
    return [testthread id]
}

# create ?-joinable? ?SCRIPT? --
#	A thread with the script, or one that waits.
proc ::thread::create {args} {
    variable load
    set joinable [expr {[lindex $args 0] eq "-joinable"}]
    set script [lindex $args $joinable]
    if {[llength $args] == $joinable} {
        set script ::thread::wait
    }
    # Python tells only its own interpreters where their library is: not that of a new thread,
    # which has found it when this returns, nor those that are made there.
    set before [array get ::env TCL_LIBRARY]
    set ::env(TCL_LIBRARY) $::tcl_library
    set id [testthread create {*}[lrepeat $joinable -joinable] \
        [::join [list {*}$load $script] \n]]
    unset ::env(TCL_LIBRARY)
    array set ::env $before
    return $id
}

# send ?-async? ID SCRIPT ?VARIABLE? --
#	Evaluate it there, and return its result; or have the result put into the variable here.
proc ::thread::send {args} {
    set async [expr {[lindex $args 0] eq "-async"}]
    lassign [lrange $args $async end] id script variable
    if {$async && $variable ne ""} {
        set script [list ::thread::Answer [testthread id] $script $variable]
    }
    if {$async} {
        return [testthread send -async $id $script]
    }
    if {$variable eq ""} {
        return [uplevel 1 [list testthread send $id $script]]
    }
    upvar 1 $variable result
    return [catch {testthread send $id $script} result]
}

proc ::thread::Answer {id script variable} {
    catch {uplevel #0 $script} result
    testthread send -async $id [list set ::$variable $result]
}

proc ::thread::wait {} {
    vwait ::thread::released
}

proc ::thread::release {{id ""}} {
    if {$id eq ""} {
        set id [testthread id]
    }
    testthread send -async $id {set ::thread::released 1}
    return 0
}

proc ::thread::unwind {} {
    set ::thread::released 1
}

proc ::thread::join {id} {
    return [testthread join $id]
}

proc ::thread::transfer {id channel} {
    detach $channel
    testthread send $id [list ::thread::attach $channel]
}
