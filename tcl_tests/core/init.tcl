# Tcl's init.tcl, and then the driver's socket2 in place of socket.
#
# With this directory as TCL_LIBRARY, every interpreter with Tcl's library begins here: that of a
# tclsh, of a thread, of a child process, and those that scripts make. So programs that know nothing
# of the driver use it throughout: the test suites of Tcl's core.
#
#   TCLCHAN_TCL_LIBRARY   the directory of Tcl's own init.tcl
#   TCLCHAN_LIBDIR        the driver's, see load.tcl
#   TCLCHAN_TEST_CORE     1: the driver is not loaded
#   TCLCHAN_TEST_SOCKET   core: socket stays the core's, while the event loop may be the driver's
#   TCLCHAN_TEST_COMMANDS a library with the commands that Tcl's sources have for its tests
#   TCLCHAN_SHELL         where a program hosts Tcl: what is to be started in place of a tclsh
#   TCLCHAN_ATTACHED      set where that program gives its first interpreter the driver itself

set ::tcl_library $::env(TCLCHAN_TCL_LIBRARY)
source [file join $::tcl_library init.tcl]

apply {directory {
    global env
    if {[info exists env(TCLCHAN_SHELL)]} {
        set map [namespace ensemble configure ::info -map]
        set command [list ::apply [list {} [list return $env(TCLCHAN_SHELL)]]]
        namespace ensemble configure ::info -map [dict replace $map nameofexecutable $command]
    }
    if {[info exists env(TCLCHAN_TEST_COMMANDS)]} {
        load $env(TCLCHAN_TEST_COMMANDS) Tcltest
    }
    if {[info exists env(TCLCHAN_ATTACHED)]} {
        unset env(TCLCHAN_ATTACHED)
        return
    }
    if {[info exists env(TCLCHAN_TEST_CORE)] && $env(TCLCHAN_TEST_CORE) eq "1"} {
        return
    }
    uplevel #0 [list source [file join $directory .. load.tcl]]
    if {[info exists env(TCLCHAN_TEST_SOCKET)] && $env(TCLCHAN_TEST_SOCKET) eq "core"} {
        return
    }
    rename ::socket ::tcl_core_socket
    interp alias {} ::socket {} ::socket2
}} [file dirname [file normalize [info script]]]
