/*
 * iocpCopy.c --
 *	iocp::copy: fcopy, but most of what goes from a connection or to one never reaches Tcl
 *	(iocpMove.c).
 *
 *	The beginning and the end are fcopy's own. Arguments that are wrong, channels that are no
 *	such pair or translate, small files: all that goes to fcopy as it is. And what is left when
 *	the copying comes to an end (at the end of the data, at an error, before a remainder that is
 *	not worth an op) fcopy copies too: so it is fcopy that finds the end or words the error, and
 *	that leaves the channels as fcopy does.
 *
 *	While it goes on in the background, the channels are busy since fcopies with guards
 *	(iocpGuard.c) are under way on them.
 */

#include "iocpInt.h"

/* What encodes nothing, as fconfigure has it. */
#define BINARY (TCL_MAJOR_VERSION > 8 ? "iso8859-1" : "binary")
#define NO_EOFCHAR (TCL_MAJOR_VERSION > 8 ? "" : "{}")

/* What a script asks for, if it is something for the kernel. */
typedef struct Request {
    Tcl_Channel in, out;
    IocpChan *fromPtr, *toPtr;	/* NULL: it is the file. */
    IocpFile file;
    int64_t start, size;
    Tcl_Obj *commandPtr;
} Request;

/*
 * HasOption --
 *	Whether a channel's option is of that value, or, where there is one for each direction, that
 *	of the direction.
 */
static int
HasOption(Tcl_Channel channel, int direction, const char *name, const char *value)
{
    Tcl_DString ds;
    const char *both, *part;
    size_t length = strlen(value);
    int same = 0;

    Tcl_DStringInit(&ds);
    if (Tcl_GetChannelOption(NULL, channel, name, &ds) == TCL_OK) {
	both = Tcl_DStringValue(&ds);
	part = direction == TCL_WRITABLE && strchr(both, ' ') != NULL ? strchr(both, ' ') + 1
		: both;
	same = strncmp(part, value, length) == 0 && (part[length] == '\0' || part[length] == ' ');
    }
    Tcl_DStringFree(&ds);
    return same;
}

static int
IsPlain(Tcl_Channel channel, int direction)
{
    return Tcl_GetTopChannel(channel) == channel
	    && HasOption(channel, direction, "-translation", "lf")
	    && HasOption(channel, direction, "-encoding", BINARY);
}

static int
ParseOptions(int objc, Tcl_Obj *const objv[], Request *requestPtr)
{
    static const char *const options[] = {"-size", "-command", NULL};
    Tcl_WideInt size;
    int index;

    for (int i = 3; i < objc; i += 2) {
	if (Tcl_GetIndexFromObj(NULL, objv[i], options, "option", 0, &index) != TCL_OK) {
	    return 0;
	}
	if (index == 1) {
	    requestPtr->commandPtr = objv[i + 1];
	} else if (Tcl_GetWideIntFromObj(NULL, objv[i + 1], &size) == TCL_OK) {
	    requestPtr->size = size < 0 ? -1 : size;
	} else {
	    return 0;
	}
    }
    return 1;
}

/*
 * GetFile --
 *	The file that a channel is, if that is what it is.
 */
static int
GetFile(Tcl_Channel channel, int direction, IocpFile *filePtr)
{
    void *handle;

    if (strcmp(Tcl_ChannelName(Tcl_GetChannelType(channel)), "file") != 0
	    || Tcl_GetChannelHandle(channel, direction, &handle) != TCL_OK) {
	return 0;
    }
    *filePtr = (IocpFile)(intptr_t)handle;
    return IocpFileSize(*filePtr) >= 0;
}

/*
 * IsForKernel --
 *	Whether the command's words ask for something that need not go through Tcl. What is wrong
 *	with them, fcopy says.
 */
static int
IsForKernel(Tcl_Interp *interp, int objc, Tcl_Obj *const objv[], Request *requestPtr)
{
    IocpChan *fromPtr, *toPtr;
    IocpThread *threadPtr;
    Tcl_Channel in, out;
    int inMode, outMode;

    *requestPtr = (Request){.file = IOCP_NO_FILE, .size = -1};
    if ((objc != 3 && objc != 5 && objc != 7) || !ParseOptions(objc, objv, requestPtr)
	    || (requestPtr->size >= 0 && requestPtr->size < IOCP_COPY_MIN)) {
	return 0;
    }
    requestPtr->in = in = Tcl_GetChannel(interp, Tcl_GetString(objv[1]), &inMode);
    if (in == NULL) {
	return 0;
    }
    requestPtr->out = out = Tcl_GetChannel(interp, Tcl_GetString(objv[2]), &outMode);
    if (out == NULL || in == out || !(inMode & TCL_READABLE) || !(outMode & TCL_WRITABLE)) {
	return 0;
    }
    requestPtr->fromPtr = fromPtr = IocpChanOf(in);
    requestPtr->toPtr = toPtr = IocpChanOf(out);
    if ((fromPtr == NULL && toPtr == NULL)
	    || (fromPtr == NULL && !GetFile(in, TCL_READABLE, &requestPtr->file))
	    || (toPtr == NULL && !GetFile(out, TCL_WRITABLE, &requestPtr->file))) {
	return 0;
    }
    threadPtr = (toPtr != NULL ? toPtr : fromPtr)->threadPtr;
    IocpThreadSettle(threadPtr);
    if (threadPtr->enginePtr == &iocpNoEngine || IocpThreadEnds(threadPtr)) {
	return 0;
    }
    if (toPtr != NULL && (toPtr->state != IOCP_OPEN || toPtr->sendError != 0
	    || toPtr->sendPtr->copyPtr != NULL
	    || (toPtr->flags & (IOCP_CHANF_RESET | IOCP_CHANF_SHUT_WRITE)))) {
	return 0;
    }
    if (fromPtr != NULL && (fromPtr->state != IOCP_OPEN || fromPtr->sourcePtr != NULL)) {
	return 0;
    }

    /*
     * A channel that was at its end stays there for fcopy, even if the file has grown.
     */

    if (!IsPlain(out, TCL_WRITABLE) || !IsPlain(in, TCL_READABLE)
	    || !HasOption(in, TCL_READABLE, "-eofchar", NO_EOFCHAR) || Tcl_Eof(in)) {
	return 0;
    }
    if (fromPtr != NULL) {
	return 1;
    }

    /*
     * One that is busy does not tell its position.
     */

    requestPtr->start = Tcl_OutputBuffered(in) > 0 ? -1 : Tcl_Tell(in);
    return requestPtr->start >= 0
	    && IocpFileSize(requestPtr->file) - requestPtr->start >= IOCP_COPY_MIN;
}

/*
 * Fcopy --
 *	Tcl's fcopy between two channels, of which the interpreter may know nothing.
 */
static int
Fcopy(Tcl_Interp *interp, const Tcl_CmdInfo *infoPtr, Tcl_Channel in, Tcl_Channel out, int64_t size,
	Tcl_Obj *commandPtr)
{
    Tcl_Channel channels[2] = {in, out};
    Tcl_Obj *objv[7];
    int unknown[2], objc = 3, result;

    objv[0] = Tcl_NewStringObj("fcopy", -1);
    for (int i = 0; i < 2; i++) {
	unknown[i] = !Tcl_IsChannelRegistered(interp, channels[i]);
	if (unknown[i]) {
	    Tcl_RegisterChannel(interp, channels[i]);
	}
	objv[i + 1] = Tcl_NewStringObj(Tcl_GetChannelName(channels[i]), -1);
    }
    if (size >= 0) {
	objv[objc++] = Tcl_NewStringObj("-size", -1);
	objv[objc++] = Tcl_NewWideIntObj(size);
    }
    if (commandPtr != NULL) {
	objv[objc++] = Tcl_NewStringObj("-command", -1);
	objv[objc++] = commandPtr;
    }
    for (int i = 0; i < objc; i++) {
	Tcl_IncrRefCount(objv[i]);
    }
    result = infoPtr->objProc(infoPtr->objClientData, interp, objc, objv);
    for (int i = 0; i < objc; i++) {
	Tcl_DecrRefCount(objv[i]);
    }
    for (int i = 0; i < 2; i++) {
	if (unknown[i]) {
	    Tcl_DetachChannel(interp, channels[i]);
	}
    }
    return result;
}

/*
 * Callback --
 *	The command for the fcopy of the rest, which adds what was copied before.
 */
static Tcl_Obj *
Callback(int64_t copied, Tcl_Obj *commandPtr)
{
    Tcl_Obj *words[3] = {
	Tcl_NewStringObj("::iocp::copied", -1), Tcl_NewWideIntObj(copied), commandPtr
    };

    return Tcl_NewListObj(3, words);
}

/*
 * Call --
 *	Call the command as fcopy does: one that is no list, without arguments. errorPtr may be
 *	NULL.
 */
static void
Call(Tcl_Interp *interp, Tcl_Obj *commandPtr, Tcl_WideInt bytes, Tcl_Obj *errorPtr)
{
    Tcl_Obj *callPtr = Tcl_DuplicateObj(commandPtr), *bytesPtr = Tcl_NewWideIntObj(bytes);
    int code;

    Tcl_IncrRefCount(callPtr);
    Tcl_IncrRefCount(bytesPtr);
    if (errorPtr != NULL) {
	Tcl_IncrRefCount(errorPtr);
    }
    if (Tcl_ListObjAppendElement(NULL, callPtr, bytesPtr) == TCL_OK && errorPtr != NULL) {
	Tcl_ListObjAppendElement(NULL, callPtr, errorPtr);
    }
    Tcl_DecrRefCount(bytesPtr);
    if (errorPtr != NULL) {
	Tcl_DecrRefCount(errorPtr);
    }
    Tcl_Preserve(interp);
    code = Tcl_EvalObjEx(interp, callPtr, TCL_EVAL_GLOBAL);
    if (code != TCL_OK) {
	Tcl_BackgroundException(interp, code);
    }
    Tcl_Release(interp);
    Tcl_DecrRefCount(callPtr);
}

/*
 * IocpCopiedObjCmd --
 *	::iocp::copied before command bytes ?error?: calls the command as fcopy does. Not for
 *	scripts: it is what the fcopy of the rest calls.
 */
int
IocpCopiedObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    Tcl_WideInt before, bytes;

    (void)unused;
    if (objc < 4 || objc > 5) {
	Tcl_WrongNumArgs(interp, 1, objv, "before command bytes ?error?");
	return TCL_ERROR;
    }
    if (Tcl_GetWideIntFromObj(interp, objv[1], &before) != TCL_OK
	    || Tcl_GetWideIntFromObj(interp, objv[3], &bytes) != TCL_OK) {
	return TCL_ERROR;
    }
    Call(interp, objv[2], before + bytes, objc == 5 ? objv[4] : NULL);
    return TCL_OK;
}

/*
 * Release --
 *	The channels belong to scripts again: a file that is read is where the copying has got to.
 */
static void
Release(IocpCopy *copyPtr, int fileIsFree)
{
    if (copyPtr->inGuardPtr != NULL) {
	IocpGuardRelease(copyPtr->inGuardPtr);
    }
    if (copyPtr->outGuardPtr != NULL) {
	IocpGuardRelease(copyPtr->outGuardPtr);
    }
    copyPtr->inGuardPtr = copyPtr->outGuardPtr = NULL;
    if (copyPtr->fromPtr == NULL && fileIsFree) {
	Tcl_Seek(copyPtr->in, copyPtr->start + copyPtr->copied, SEEK_SET);
    }
    IocpMoveDetach(copyPtr);
}

/*
 * Stop --
 *	There will be no callback, as there is none of an fcopy whose channel is closed. fileIsFree
 *	is 0 if it is the fcopy of the file that is read that Tcl is ending right now.
 */
static void
Stop(IocpCopy *copyPtr, int fileIsFree)
{
    IocpThreadSettle(copyPtr->chanPtr->threadPtr);
    if (copyPtr->fromPtr != NULL) {
	IocpMoveSettle(copyPtr);
    }
    Release(copyPtr, fileIsFree);
    if (copyPtr->commandPtr != NULL) {
	Tcl_DecrRefCount(copyPtr->commandPtr);
    }
    if (copyPtr->fileOp.op.inFlight) {
	IocpOpStop(copyPtr->chanPtr, &copyPtr->fileOp.op);
    } else {
	IocpMoveFree(copyPtr);
    }
}

static void
InStopped(void *clientData)
{
    Stop(clientData, 0);
}

static void
OutStopped(void *clientData)
{
    Stop(clientData, 1);
}

/*
 * IocpCopyStop --
 *	The channel leaves its thread, or is closed.
 */
void
IocpCopyStop(IocpChan *chanPtr)
{
    if (chanPtr->sendPtr->copyPtr != NULL) {
	Stop(chanPtr->sendPtr->copyPtr, 1);
    }
    if (chanPtr->sourcePtr != NULL) {
	Stop(chanPtr->sourcePtr, 1);
    }
}

static int
IsOf(const IocpCopy *copyPtr, const Tcl_Interp *interp)
{
    return copyPtr != NULL && (interp == NULL || copyPtr->interp == interp);
}

/*
 * IocpCopyStopAll --
 *	Tcl ends in the thread, or in one interpreter of it (NULL: in all).
 */
void
IocpCopyStopAll(IocpThread *threadPtr, Tcl_Interp *interp)
{
    IocpChan *chanPtr = threadPtr->chansPtr;

    while (chanPtr != NULL) {
	IocpCopy *copyPtr = chanPtr->sendPtr->copyPtr;

	if (!IsOf(copyPtr, interp)) {
	    copyPtr = IsOf(chanPtr->sourcePtr, interp) ? chanPtr->sourcePtr : NULL;
	}

	if (copyPtr != NULL) {
	    Stop(copyPtr, 1);
	    chanPtr = threadPtr->chansPtr;	/* Closed ones may be gone meanwhile. */
	} else {
	    chanPtr = chanPtr->nextPtr;
	}
    }
}

/*
 * CopyRest --
 *	fcopy takes over; the copy is gone.
 */
static int
CopyRest(IocpCopy *copyPtr)
{
    Tcl_Interp *interp = copyPtr->interp;
    Tcl_Channel in = copyPtr->in, out = copyPtr->out;
    Tcl_CmdInfo info = copyPtr->fcopy;
    Tcl_Obj *commandPtr = copyPtr->commandPtr;
    int64_t copied = copyPtr->copied;
    int64_t rest = copyPtr->size < 0 ? -1 : copyPtr->size - copied;
    int shut = copyPtr->toPtr != NULL && (copyPtr->toPtr->flags & IOCP_CHANF_SHUT_WRITE);
    Tcl_WideInt bytes;
    int result;

    Release(copyPtr, 1);
    IocpMoveFree(copyPtr);
    if (commandPtr == NULL) {
	result = Fcopy(interp, &info, in, out, rest, NULL);
	if (result == TCL_OK
		&& Tcl_GetWideIntFromObj(interp, Tcl_GetObjResult(interp), &bytes) == TCL_OK) {
	    Tcl_SetObjResult(interp, Tcl_NewWideIntObj(copied + bytes));
	}
	return result;
    }

    /*
     * fcopy takes no channel one side of which is closed, but goes on with one.
     */

    if (shut) {
	Tcl_SetErrno(EPIPE);
	Call(interp, commandPtr, copied, Tcl_ObjPrintf("error writing \"%s\": %s",
		Tcl_GetChannelName(out), Tcl_PosixError(interp)));
    } else if (!(Tcl_GetChannelMode(in) & TCL_READABLE)) {
	Call(interp, commandPtr, copied, NULL);
    } else if (Fcopy(interp, &info, in, out, rest, Callback(copied, commandPtr)) != TCL_OK) {
	Call(interp, commandPtr, copied, Tcl_GetObjResult(interp));
    }
    Tcl_DecrRefCount(commandPtr);
    return TCL_OK;
}

static int
IsDone(const IocpCopy *copyPtr)
{
    return copyPtr != NULL && copyPtr->state == IOCP_COPY_ENDED && copyPtr->commandPtr != NULL;
}

/*
 * IocpCopyServe --
 *	From the event loop: what a copy of the channel has left is fcopy's. May run a script, so
 *	one at a time.
 */
void
IocpCopyServe(IocpChan *chanPtr)
{
    if (IsDone(chanPtr->sendPtr->copyPtr)) {
	if (IsDone(chanPtr->sourcePtr)) {
	    IocpEventPost(chanPtr);
	}
	CopyRest(chanPtr->sendPtr->copyPtr);
    } else if (IsDone(chanPtr->sourcePtr)) {
	CopyRest(chanPtr->sourcePtr);
    }
}

/*
 * Drive --
 *	Drive the engine until all is copied. What completes for other channels meanwhile is queued
 *	for the event loop, so no script runs.
 * Results:
 *	TCL_ERROR if a signal came while there was nothing to read.
 */
static int
Drive(IocpCopy *copyPtr)
{
    IocpChan *fromPtr = copyPtr->fromPtr;

    while (copyPtr->state != IOCP_COPY_ENDED) {
	if (IocpThreadWait(copyPtr->chanPtr->threadPtr, -1) == -EINTR && fromPtr != NULL
		&& fromPtr->recvFirstPtr == NULL && copyPtr->state == IOCP_COPY_WAITING) {
	    Tcl_SetErrno(EINTR);
	    Tcl_SetObjResult(copyPtr->interp, Tcl_ObjPrintf("error reading \"%s\": %s",
		    Tcl_GetChannelName(copyPtr->in), Tcl_PosixError(copyPtr->interp)));
	    return TCL_ERROR;
	}
    }
    return TCL_OK;
}

/*
 * Occupy --
 *	Make the channels busy for the copy, or only the one that is read (outGuardPtr NULL), once
 *	what was written before is flushed. The command, if there is one, is called at once if that
 *	fails, and may do anything: nothing of ours is in its way yet.
 * Results:
 *	As of fcopy. *copyPtrPtr is NULL if there is no memory, and all is as before.
 */
static int
Occupy(Tcl_Interp *interp, const Tcl_CmdInfo *infoPtr, const Request *requestPtr,
	IocpGuard *inGuardPtr, IocpGuard *outGuardPtr, IocpCopy **copyPtrPtr)
{
    Tcl_Obj *commandPtr = requestPtr->commandPtr;
    IocpCopy *copyPtr;
    int result;

    *copyPtrPtr = NULL;
    if (commandPtr != NULL) {
	result = Fcopy(interp, infoPtr, IocpGuardChannel(outGuardPtr), requestPtr->out, -1,
		Callback(0, commandPtr));
    } else {
	result = Fcopy(interp, infoPtr, IocpGuardChannel(inGuardPtr), requestPtr->out, 0, NULL);
    }
    if (result != TCL_OK) {
	return result;
    }
    copyPtr = IocpMoveNew(requestPtr->fromPtr, requestPtr->toPtr, requestPtr->file);
    if (copyPtr == NULL) {
	return TCL_OK;
    }
    copyPtr->in = requestPtr->in;
    copyPtr->out = requestPtr->out;
    copyPtr->interp = interp;
    copyPtr->fcopy = *infoPtr;
    copyPtr->start = requestPtr->start;
    copyPtr->size = requestPtr->size;
    IocpMoveAttach(copyPtr);

    /*
     * fcopy finds nothing to read: of a connection, since all is the copy's from now on. Of a file
     * it finds a byte that is read already, and leaves the file alone; going back to where the
     * kernel has got to discards it.
     */

    if (requestPtr->fromPtr == NULL && Tcl_InputBuffered(requestPtr->in) == 0) {
	Tcl_Ungets(requestPtr->in, "", 1, 0);
    }
    if (requestPtr->fromPtr == NULL || IocpRecvUnread(requestPtr->fromPtr)) {
	result = Fcopy(interp, infoPtr, requestPtr->in, IocpGuardChannel(inGuardPtr), -1,
		Tcl_NewObj());
	if (result == TCL_OK) {
	    *copyPtrPtr = copyPtr;
	    return TCL_OK;
	}
    }
    IocpMoveDetach(copyPtr);
    IocpMoveFree(copyPtr);
    return result;
}

/*
 * Copy --
 *	Make the channels busy. With -command, let the event loop do the rest; without, do it now.
 */
static int
Copy(Tcl_Interp *interp, const Tcl_CmdInfo *infoPtr, const Request *requestPtr)
{
    IocpGuard *inGuardPtr = IocpGuardGet();
    IocpGuard *outGuardPtr = requestPtr->commandPtr != NULL ? IocpGuardGet() : NULL;
    IocpCopy *copyPtr = NULL;
    int result = TCL_OK;

    if (inGuardPtr != NULL && (outGuardPtr != NULL || requestPtr->commandPtr == NULL)) {
	result = Occupy(interp, infoPtr, requestPtr, inGuardPtr, outGuardPtr, &copyPtr);
    }
    if (copyPtr == NULL) {
	if (inGuardPtr != NULL) {
	    IocpGuardRelease(inGuardPtr);
	}
	if (outGuardPtr != NULL) {
	    IocpGuardRelease(outGuardPtr);
	}
	if (result != TCL_OK) {
	    return result;
	}
	if (requestPtr->fromPtr == NULL) {
	    Tcl_Seek(requestPtr->in, requestPtr->start, SEEK_SET);
	}
	return Fcopy(interp, infoPtr, requestPtr->in, requestPtr->out, requestPtr->size,
		requestPtr->commandPtr);
    }
    copyPtr->inGuardPtr = inGuardPtr;
    IocpGuardTell(inGuardPtr, InStopped, copyPtr);
    if (outGuardPtr != NULL) {
	copyPtr->outGuardPtr = outGuardPtr;
	IocpGuardTell(outGuardPtr, OutStopped, copyPtr);
	copyPtr->commandPtr = requestPtr->commandPtr;
	Tcl_IncrRefCount(copyPtr->commandPtr);
    }
    IocpEventDirty(copyPtr->chanPtr);
    if (copyPtr->fromPtr != NULL) {
	IocpEventDirty(copyPtr->fromPtr);
    }
    if (requestPtr->commandPtr != NULL) {
	return TCL_OK;
    }
    if (Drive(copyPtr) != TCL_OK) {
	Release(copyPtr, 1);
	IocpMoveFree(copyPtr);
	return TCL_ERROR;
    }
    return CopyRest(copyPtr);
}

/*
 * CopyObjCmd --
 *	iocp::copy: the words, the results and the messages of fcopy.
 */
static int
CopyObjCmd(void *clientData, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    Tcl_CmdInfo info = *(Tcl_CmdInfo *)clientData;	/* The command may be deleted meanwhile. */
    Request request;

    if (!IsForKernel(interp, objc, objv, &request)) {
	return info.objProc(info.objClientData, interp, objc, objv);
    }
    return Copy(interp, &info, &request);
}

static void
Forget(void *clientData)
{
    free(clientData);
}

/*
 * IocpCopyInit --
 *	Make the command. It remembers Tcl's fcopy by the name under which "chan copy" has it: a
 *	host may have put iocp::copy in the place of the other one.
 */
void
IocpCopyInit(Tcl_Interp *interp)
{
    Tcl_CmdInfo *infoPtr = malloc(sizeof(Tcl_CmdInfo)), there;

    if (Tcl_GetCommandInfo(interp, "::iocp::copy", &there) && there.objProc == CopyObjCmd) {
	free(infoPtr);
	return;
    }
    if (infoPtr == NULL) {
	Tcl_Panic("unable to alloc %lu bytes", (unsigned long)sizeof(Tcl_CmdInfo));
    }
    if (Tcl_GetCommandInfo(interp, "::tcl::chan::copy", infoPtr)
	    || Tcl_GetCommandInfo(interp, "::fcopy", infoPtr)) {
	Tcl_CreateObjCommand(interp, "::iocp::copy", CopyObjCmd, infoPtr, Forget);
    } else {
	free(infoPtr);
    }
}
