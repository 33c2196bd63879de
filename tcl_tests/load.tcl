# Makes the command socket2 exist in the interpreter that sources this file.
#
# Test files, the child processes and the threads they start all begin with it, so that there is
# one place that knows where the driver is:
#
#   TCLCHAN_LIBDIR     the directory of the libraries and pkgIndex.tcl; without it, auto_path.
#   TCLCHAN_NOTIFIER   ring: Tcl's event loop runs on the driver (host mode).
#   TCLCHAN_TEST_CORE  1: socket2 is the core's own socket. For writing tests, not for running them.

if {[info exists ::env(TCLCHAN_TEST_CORE)] && $::env(TCLCHAN_TEST_CORE) eq "1"} {
    if {[info commands ::socket2] eq ""} {
        interp alias {} ::socket2 {} ::socket
    }
} else {
    if {[info exists ::env(TCLCHAN_LIBDIR)] && $::env(TCLCHAN_LIBDIR) ne ""} {
        if {$::env(TCLCHAN_LIBDIR) ni $::auto_path} {
            set ::auto_path [linsert $::auto_path 0 $::env(TCLCHAN_LIBDIR)]
        }
    }
    package require Iocpsock
    if {[info exists ::env(TCLCHAN_NOTIFIER)] && $::env(TCLCHAN_NOTIFIER) ne ""} {
        iocp::notifier $::env(TCLCHAN_NOTIFIER)
    }
}
