# Either name loads the library, which provides both packages. Each major version of Tcl has its
# own; that for Tcl 9 may not have been built.
if {[package vsatisfies [package provide Tcl] 9.0]} {
    set library tcl9iocpsock
} elseif {[package vsatisfies [package provide Tcl] 8.6]} {
    set library iocpsock
} else {
    return
}
if {$::tcl_platform(platform) ne "windows"} {
    set library lib$library
}
set library [file join $dir $library[info sharedlibextension]]
if {[file exists $library]} {
    package ifneeded Iocpsock 3.1 [list load $library Iocpsock]
    package ifneeded iocpsock 3.1 [list load $library Iocpsock]
}
