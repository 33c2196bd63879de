/*
 * thread.c --
 *	What thread.tcl needs in C: the command testthread, from Tcl's sources, and two commands
 *	that take a channel out of its thread and put it into another.
 */

#include <tcl.h>

typedef struct Detached {
    Tcl_Channel channel;
    struct Detached *nextPtr;
} Detached;

TCL_DECLARE_MUTEX(detachedMutex)
static Detached *detachedPtr;	/* Channels of no thread. Under detachedMutex. */

extern int TclThread_Init(Tcl_Interp *interp);

static int
DetachCmd(void *data, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    Tcl_Channel channel;
    Detached *newPtr;

    (void)data;
    if (objc != 2) {
	Tcl_WrongNumArgs(interp, 1, objv, "channel");
	return TCL_ERROR;
    }
    channel = Tcl_GetChannel(interp, Tcl_GetString(objv[1]), NULL);
    if (channel == NULL) {
	return TCL_ERROR;
    }
    if (Tcl_IsChannelShared(channel)) {
	Tcl_SetObjResult(interp, Tcl_NewStringObj("channel is shared", -1));
	return TCL_ERROR;
    }
    newPtr = (Detached *)Tcl_Alloc(sizeof(Detached));
    newPtr->channel = channel;
    Tcl_ClearChannelHandlers(channel);
    Tcl_RegisterChannel(NULL, channel);	/* It is not closed when the interpreter forgets it. */
    Tcl_UnregisterChannel(interp, channel);
    Tcl_CutChannel(channel);
    Tcl_MutexLock(&detachedMutex);
    newPtr->nextPtr = detachedPtr;
    detachedPtr = newPtr;
    Tcl_MutexUnlock(&detachedMutex);
    return TCL_OK;
}

static int
AttachCmd(void *data, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    Detached **linkPtr, *foundPtr;

    (void)data;
    if (objc != 2) {
	Tcl_WrongNumArgs(interp, 1, objv, "channel");
	return TCL_ERROR;
    }
    Tcl_MutexLock(&detachedMutex);
    for (linkPtr = &detachedPtr; *linkPtr != NULL; linkPtr = &(*linkPtr)->nextPtr) {
	if (Tcl_StringMatch(Tcl_GetChannelName((*linkPtr)->channel), Tcl_GetString(objv[1]))) {
	    break;
	}
    }
    foundPtr = *linkPtr;
    if (foundPtr != NULL) {
	*linkPtr = foundPtr->nextPtr;
    }
    Tcl_MutexUnlock(&detachedMutex);
    if (foundPtr == NULL) {
	Tcl_SetObjResult(interp, Tcl_NewStringObj("channel is not detached", -1));
	return TCL_ERROR;
    }
    Tcl_SpliceChannel(foundPtr->channel);
    Tcl_RegisterChannel(interp, foundPtr->channel);
    Tcl_UnregisterChannel(NULL, foundPtr->channel);
    Tcl_Free((char *)foundPtr);
    return TCL_OK;
}

/* The name under which the sources of the command call it, for each new thread. */
__declspec(dllexport) int
Tcltest_Init(Tcl_Interp *interp)
{
    if (Tcl_InitStubs(interp, "8.6", 0) == NULL) {
	return TCL_ERROR;
    }
    Tcl_CreateObjCommand(interp, "::thread::detach", DetachCmd, NULL, NULL);
    Tcl_CreateObjCommand(interp, "::thread::attach", AttachCmd, NULL, NULL);
    return TclThread_Init(interp);
}
