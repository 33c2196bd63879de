/*
 * iocpCopy.c --
 *	iocp::copy: fcopy, but that of a large file to a connection the kernel copies most, straight
 *	from its cache (IOCP_OP_SEND_FILE).
 *
 *	The beginning and the end are fcopy's own. Arguments that are wrong, channels that are no
 *	such pair or translate, small files: all that goes to fcopy as it is. And what is left when
 *	the kernel comes to an end (at the end of the file, at an error, before a remainder that is
 *	not worth an op) fcopy copies too: so it is fcopy that finds the end of the file or words
 *	the error, and that leaves the channels as fcopy does.
 *
 *	While the kernel copies in the background, the channels are busy since fcopies with guards
 *	(iocpGuard.c) are under way on them.
 *
 *	A copy, and the procedure that makes each move:
 *
 *	  WAITING -> SENDING	IocpCopyStart: all that was written before is in the kernel
 *	  SENDING -> WAITING	IocpCopyDone
 *	  WAITING -> ENDED	IocpCopyStart: what is left is fcopy's
 *	  ENDED -> gone		IocpCopyServe, CopyNow
 *	  any -> gone		Stop: a script has closed one of the channels, or the like
 */

#include "iocpInt.h"

#define MIN_SIZE 65536		/* Less is not worth an op. */

/* What encodes nothing, as fconfigure has it. */
#define BINARY (TCL_MAJOR_VERSION > 8 ? "iso8859-1" : "binary")
#define NO_EOFCHAR (TCL_MAJOR_VERSION > 8 ? "" : "{}")

/*
 * One copy.
 *
 * Lifetime: from the command until fcopy takes over, or until it is stopped; while its op is in
 * flight it outlives that (IocpChan.filePtr), and IocpCopyDone frees it.
 */
struct IocpCopy {
    IocpFileOp fileOp;		/* Must be first. fileOp.file is our own descriptor of the file. */
    enum { WAITING, SENDING, ENDED } state;
    IocpChan *chanPtr;		/* The connection; holds it in IocpChan.copyPtr. */
    Tcl_Channel in;
    Tcl_Interp *interp;		/* Its deletion stops the copy. */
    Tcl_CmdInfo fcopy;
    Tcl_Obj *commandPtr;	/* NULL: in the foreground, without guards. */
    IocpGuard *inGuardPtr, *outGuardPtr;
    int64_t start;		/* In the file. */
    int64_t copied;
    int64_t size;		/* -1: to the end of the file. */
};

/* What a script asks for, if it is something for the kernel. */
typedef struct Request {
    Tcl_Channel in, out;
    IocpChan *chanPtr;
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
 * IsForKernel --
 *	Whether the command's words ask for something that the kernel can do. What is wrong with
 *	them, fcopy says.
 */
static int
IsForKernel(Tcl_Interp *interp, int objc, Tcl_Obj *const objv[], Request *requestPtr)
{
    IocpChan *chanPtr;
    void *handle;
    int inMode, outMode;

    *requestPtr = (Request){.size = -1};
    if ((objc != 3 && objc != 5 && objc != 7) || !ParseOptions(objc, objv, requestPtr)
	    || (requestPtr->size >= 0 && requestPtr->size < MIN_SIZE)) {
	return 0;
    }
    requestPtr->in = Tcl_GetChannel(interp, Tcl_GetString(objv[1]), &inMode);
    if (requestPtr->in == NULL) {
	return 0;
    }
    requestPtr->out = Tcl_GetChannel(interp, Tcl_GetString(objv[2]), &outMode);
    if (requestPtr->out == NULL || !(inMode & TCL_READABLE) || !(outMode & TCL_WRITABLE)
	    || Tcl_GetChannelType(requestPtr->out) != &iocpChannelType
	    || strcmp(Tcl_ChannelName(Tcl_GetChannelType(requestPtr->in)), "file") != 0
	    || Tcl_GetChannelHandle(requestPtr->in, TCL_READABLE, &handle) != TCL_OK) {
	return 0;
    }
    requestPtr->file = (IocpFile)(intptr_t)handle;
    requestPtr->chanPtr = chanPtr = Tcl_GetChannelInstanceData(requestPtr->out);
    IocpThreadSettle(chanPtr->threadPtr);
    if (chanPtr->state != IOCP_OPEN || chanPtr->sendError != 0 || chanPtr->copyPtr != NULL
	    || (chanPtr->flags & (IOCP_CHANF_RESET | IOCP_CHANF_SHUT_WRITE))
	    || chanPtr->threadPtr->enginePtr == &iocpNoEngine
	    || IocpThreadEnds(chanPtr->threadPtr)) {
	return 0;
    }

    /*
     * A channel that was at its end stays there for fcopy, even if the file has grown. One that is
     * busy does not tell its position.
     */

    if (!IsPlain(requestPtr->out, TCL_WRITABLE) || !IsPlain(requestPtr->in, TCL_READABLE)
	    || !HasOption(requestPtr->in, TCL_READABLE, "-eofchar", NO_EOFCHAR)
	    || Tcl_Eof(requestPtr->in) || Tcl_OutputBuffered(requestPtr->in) > 0) {
	return 0;
    }
    requestPtr->start = Tcl_Tell(requestPtr->in);
    return requestPtr->start >= 0
	    && IocpFileSize(requestPtr->file) - requestPtr->start >= MIN_SIZE;
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

static void
Free(IocpCopy *copyPtr)
{
    IocpFileClose(copyPtr->fileOp.file);
    IocpFree(copyPtr->chanPtr->threadPtr, copyPtr, sizeof(IocpCopy));
}

/*
 * Release --
 *	The channels belong to scripts again: the file is where the copying has got to.
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
    if (fileIsFree) {
	Tcl_Seek(copyPtr->in, copyPtr->start + copyPtr->copied, SEEK_SET);
    }
    copyPtr->chanPtr->copyPtr = NULL;
}

/*
 * Stop --
 *	There will be no callback, as there is none of an fcopy whose channel is closed. fileIsFree
 *	is 0 if it is the file's fcopy that Tcl is ending right now.
 */
static void
Stop(IocpCopy *copyPtr, int fileIsFree)
{
    IocpThreadSettle(copyPtr->chanPtr->threadPtr);
    Release(copyPtr, fileIsFree);
    if (copyPtr->commandPtr != NULL) {
	Tcl_DecrRefCount(copyPtr->commandPtr);
    }
    if (copyPtr->fileOp.op.inFlight) {
	IocpOpCancel(copyPtr->chanPtr, &copyPtr->fileOp.op);
    } else {
	Free(copyPtr);
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
    if (chanPtr->copyPtr != NULL) {
	Stop(chanPtr->copyPtr, 1);
    }
}

/*
 * IocpCopyCancel --
 *	Let the op in flight, if there is one, end soon.
 */
void
IocpCopyCancel(IocpChan *chanPtr)
{
    if (chanPtr->filePtr != NULL) {
	IocpOpCancel(chanPtr, &chanPtr->filePtr->fileOp.op);
    }
}

/*
 * IocpCopyStopAll --
 *	Tcl ends in the thread, or in one interpreter of it (NULL: in all).
 */
void
IocpCopyStopAll(IocpThread *threadPtr, Tcl_Interp *interp)
{
    for (IocpChan *chanPtr = threadPtr->chansPtr; chanPtr != NULL; chanPtr = chanPtr->nextPtr) {
	if (chanPtr->copyPtr != NULL && (interp == NULL || chanPtr->copyPtr->interp == interp)) {
	    Stop(chanPtr->copyPtr, 1);
	}
    }
}

/*
 * IocpCopyForget --
 *	In a forked child: the op in flight is the parent's.
 */
void
IocpCopyForget(IocpChan *chanPtr)
{
    if (chanPtr->filePtr != NULL) {
	chanPtr->filePtr->fileOp.op.inFlight = 0;
	chanPtr->filePtr = NULL;
    }
    if (chanPtr->copyPtr != NULL) {
	chanPtr->copyPtr->state = WAITING;
    }
}

/*
 * NextCount --
 *	How much the kernel is to copy next. The file may have grown or shrunk meanwhile.
 * Results:
 *	0: what is left is fcopy's.
 */
static size_t
NextCount(const IocpCopy *copyPtr)
{
    int64_t left = IocpFileSize(copyPtr->fileOp.file) - copyPtr->start - copyPtr->copied;
    int64_t wanted = copyPtr->size - copyPtr->copied;

    /*
     * fcopy does not look for the end of the file behind the last byte that is asked for. Given
     * that byte, it does not here either; given nothing at all, it would.
     */

    if (copyPtr->size >= 0 && left >= wanted) {
	left = left == wanted ? wanted - 1 : wanted;
    }
    return left < MIN_SIZE ? 0 : left < IOCP_FILE_MAX ? (size_t)left : IOCP_FILE_MAX;
}

static void
End(IocpCopy *copyPtr)
{
    copyPtr->state = ENDED;
    if (copyPtr->commandPtr != NULL) {
	IocpEventPost(copyPtr->chanPtr);
    } else {
	IocpEventDirty(copyPtr->chanPtr);	/* CopyNow is not to wait for anything. */
    }
}

/*
 * IocpCopyStart --
 *	Go on, when what was written before is in the kernel.
 */
void
IocpCopyStart(IocpChan *chanPtr)
{
    IocpCopy *copyPtr = chanPtr->copyPtr;
    IocpFileOp *fileOpPtr = &copyPtr->fileOp;

    if (copyPtr->state != WAITING || chanPtr->filePtr != NULL || chanPtr->waits) {
	return;
    }
    if (chanPtr->state != IOCP_OPEN || chanPtr->sendError != 0
	    || (chanPtr->flags & IOCP_CHANF_SHUT_WRITE)) {
	End(copyPtr);
	return;
    }
    if (chanPtr->sendFirstPtr != NULL || Tcl_OutputBuffered(chanPtr->channel) > 0) {
	return;
    }
    fileOpPtr->count = Tcl_GetTopChannel(chanPtr->channel) == chanPtr->channel
	    ? NextCount(copyPtr) : 0;
    if (fileOpPtr->count == 0) {
	End(copyPtr);
	return;
    }
    fileOpPtr->offset = copyPtr->start + copyPtr->copied;
    if (IocpOpSubmit(chanPtr, &fileOpPtr->op)) {
	chanPtr->filePtr = copyPtr;
	copyPtr->state = SENDING;
    }
}

/*
 * SocketFails --
 *	Whether an error is the connection's for sure, which fcopy is then to meet. Any other may be
 *	the file's, or mean that the kernel cannot send this file: fcopy is to try.
 */
static int
SocketFails(int error)
{
    switch (error) {
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
	return 1;
    default:
	return 0;
    }
}

/*
 * IocpCopyDone --
 *	The kernel has copied a part. The copy it was for may have been stopped meanwhile.
 */
void
IocpCopyDone(IocpChan *chanPtr, const IocpCompletion *compPtr)
{
    IocpCopy *copyPtr = (IocpCopy *)compPtr->opPtr;
    IocpOp *opPtr = &copyPtr->fileOp.op;
    int stopped = copyPtr != chanPtr->copyPtr;

    chanPtr->filePtr = NULL;
    copyPtr->state = WAITING;
    opPtr->flags = 0;
    if (compPtr->result > 0) {
	IocpTimeoutSent(chanPtr);
	IOCP_COUNT(chanPtr->threadPtr, bytesSent, compPtr->result);
	IOCP_COUNT(chanPtr->threadPtr, bytesCopied, compPtr->result);
	copyPtr->copied += compPtr->result;
	if ((size_t)compPtr->result < copyPtr->fileOp.count) {
	    opPtr->flags = IOCP_OPF_EXPECT_WAIT;
	}
    }
    if (stopped) {
	Free(copyPtr);
    } else {
	switch (compPtr->result < 0 ? -compPtr->result : 0) {
	case 0:
	    if (compPtr->result == 0) {
		End(copyPtr);
	    }
	    break;
	case EINTR:
	case ECANCELED:
	    break;
	case EAGAIN:
	case ENOBUFS:
	case ENOMEM:
	    IocpSendRetryLater(chanPtr);
	    break;
	default:
	    if (SocketFails(-compPtr->result)) {
		IocpChanError(chanPtr, -compPtr->result);
		chanPtr->sendError = -compPtr->result;
	    }
	    End(copyPtr);
	    break;
	}
    }
    IocpEventDirty(chanPtr);	/* What comes next: the next part, or a write after a stop. */
}

/*
 * New --
 *	A copy, which waits to start.
 * Results:
 *	NULL if there is no descriptor or memory for it.
 */
static IocpCopy *
New(Tcl_Interp *interp, const Tcl_CmdInfo *infoPtr, const Request *requestPtr)
{
    IocpChan *chanPtr = requestPtr->chanPtr;
    IocpFile file = IocpFileDup(requestPtr->file);
    IocpCopy *copyPtr;

    if (file == IOCP_NO_FILE) {
	return NULL;
    }
    copyPtr = IocpAlloc(chanPtr->threadPtr, sizeof(IocpCopy));
    if (copyPtr == NULL) {
	IocpFileClose(file);
	return NULL;
    }
    copyPtr->fileOp.op = (IocpOp){
	.kind = IOCP_OP_SEND_FILE, .ownerPtr = chanPtr, .handlePtr = &chanPtr->handle
    };
    copyPtr->fileOp.file = file;
    copyPtr->state = WAITING;
    copyPtr->chanPtr = chanPtr;
    copyPtr->in = requestPtr->in;
    copyPtr->interp = interp;
    copyPtr->fcopy = *infoPtr;
    copyPtr->start = requestPtr->start;
    copyPtr->size = requestPtr->size;
    return copyPtr;
}

/*
 * CopyRest --
 *	fcopy takes over; the copy is gone.
 */
static int
CopyRest(IocpCopy *copyPtr)
{
    Tcl_Interp *interp = copyPtr->interp;
    Tcl_Channel in = copyPtr->in, out = copyPtr->chanPtr->channel;
    Tcl_CmdInfo info = copyPtr->fcopy;
    Tcl_Obj *commandPtr = copyPtr->commandPtr;
    int64_t copied = copyPtr->copied;
    int64_t rest = copyPtr->size < 0 ? -1 : copyPtr->size - copied;
    int shut = (copyPtr->chanPtr->flags & IOCP_CHANF_SHUT_WRITE) != 0;
    Tcl_WideInt bytes;
    int result;

    Release(copyPtr, 1);
    Free(copyPtr);
    if (commandPtr != NULL && shut) {
	/*
	 * fcopy takes no channel that is not for writing any more, but goes on with one.
	 */

	Tcl_SetErrno(EPIPE);
	Call(interp, commandPtr, copied, Tcl_ObjPrintf("error writing \"%s\": %s",
		Tcl_GetChannelName(out), Tcl_PosixError(interp)));
	Tcl_DecrRefCount(commandPtr);
	return TCL_OK;
    }
    if (commandPtr != NULL) {
	result = Fcopy(interp, &info, in, out, rest, Callback(copied, commandPtr));
	if (result != TCL_OK) {
	    Call(interp, commandPtr, copied, Tcl_GetObjResult(interp));
	}
	Tcl_DecrRefCount(commandPtr);
	return TCL_OK;
    }
    result = Fcopy(interp, &info, in, out, rest, NULL);
    if (result == TCL_OK
	    && Tcl_GetWideIntFromObj(interp, Tcl_GetObjResult(interp), &bytes) == TCL_OK) {
	Tcl_SetObjResult(interp, Tcl_NewWideIntObj(copied + bytes));
    }
    return result;
}

/*
 * IocpCopyServe --
 *	From the event loop: if the kernel is done, the rest is fcopy's. May run a script.
 */
void
IocpCopyServe(IocpChan *chanPtr)
{
    IocpCopy *copyPtr = chanPtr->copyPtr;

    if (copyPtr->state == ENDED && copyPtr->commandPtr != NULL) {
	CopyRest(copyPtr);
    }
}

/*
 * CopyNow --
 *	Without -command: drive the engine until all is copied. What completes for other channels
 *	meanwhile is queued for the event loop, so no script runs.
 */
static int
CopyNow(IocpCopy *copyPtr)
{
    IocpChan *chanPtr = copyPtr->chanPtr;
    IocpThread *threadPtr = chanPtr->threadPtr;
    int result = Fcopy(copyPtr->interp, &copyPtr->fcopy, copyPtr->in, chanPtr->channel, 0, NULL);

    /*
     * That one has flushed what was written before. It may have read a little, too.
     */

    if (result != TCL_OK) {
	Free(copyPtr);
	return result;
    }
    chanPtr->copyPtr = copyPtr;
    IocpEventDirty(chanPtr);
    while (copyPtr->state != ENDED) {
	IocpThreadWait(threadPtr, -1);
    }
    return CopyRest(copyPtr);
}

/*
 * CopyLater --
 *	With -command: make the channels busy, and let the event loop do the rest.
 */
static int
CopyLater(Tcl_Interp *interp, const Tcl_CmdInfo *infoPtr, const Request *requestPtr)
{
    IocpGuard *inGuardPtr = IocpGuardGet(), *outGuardPtr = IocpGuardGet();
    IocpCopy *copyPtr = NULL;
    int result = TCL_OK;

    /*
     * The first of these fcopies flushes what was written before. If that fails, it calls the
     * command at once, which may do anything: nothing of ours is in its way yet. The second finds
     * a byte that is read already, and leaves the file alone; going back to where the kernel has
     * got to discards it.
     */

    if (inGuardPtr != NULL && outGuardPtr != NULL) {
	result = Fcopy(interp, infoPtr, IocpGuardChannel(outGuardPtr), requestPtr->out, -1,
		Callback(0, requestPtr->commandPtr));
	if (result == TCL_OK) {
	    if (Tcl_InputBuffered(requestPtr->in) == 0) {
		Tcl_Ungets(requestPtr->in, "", 1, 0);
	    }
	    result = Fcopy(interp, infoPtr, requestPtr->in, IocpGuardChannel(inGuardPtr), -1,
		    Tcl_NewObj());
	}
	if (result == TCL_OK) {
	    copyPtr = New(interp, infoPtr, requestPtr);
	}
    }
    if (copyPtr != NULL) {
	copyPtr->commandPtr = requestPtr->commandPtr;
	Tcl_IncrRefCount(copyPtr->commandPtr);
	copyPtr->inGuardPtr = inGuardPtr;
	copyPtr->outGuardPtr = outGuardPtr;
	IocpGuardTell(inGuardPtr, InStopped, copyPtr);
	IocpGuardTell(outGuardPtr, OutStopped, copyPtr);
	copyPtr->chanPtr->copyPtr = copyPtr;
	IocpEventDirty(copyPtr->chanPtr);
	return TCL_OK;
    }
    if (inGuardPtr != NULL) {
	IocpGuardRelease(inGuardPtr);
    }
    if (outGuardPtr != NULL) {
	IocpGuardRelease(outGuardPtr);
    }
    if (result != TCL_OK) {
	return result;
    }
    Tcl_Seek(requestPtr->in, requestPtr->start, SEEK_SET);
    return Fcopy(interp, infoPtr, requestPtr->in, requestPtr->out, requestPtr->size,
	    requestPtr->commandPtr);
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
    IocpCopy *copyPtr;

    if (!IsForKernel(interp, objc, objv, &request)) {
	return info.objProc(info.objClientData, interp, objc, objv);
    }
    if (request.commandPtr != NULL) {
	return CopyLater(interp, &info, &request);
    }
    copyPtr = New(interp, &info, &request);
    if (copyPtr == NULL) {
	return info.objProc(info.objClientData, interp, objc, objv);
    }
    return CopyNow(copyPtr);
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
