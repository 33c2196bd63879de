/*
 * iocpMove.c --
 *	The part of a copy (iocpCopy.c) that Tcl has nothing to do with: its ops.
 *
 *	from a file to a connection	the kernel sends from its cache (IOCP_OP_SEND_FILE)
 *	from a connection to a file	what is received is written (IOCP_OP_WRITE_FILE),
 *	to another connection		or sent (IOCP_OP_SEND), from the buffers that it came in
 *
 *	One op is in flight at a time; meanwhile the connection that is read goes on to receive some
 *	buffers. They stay in its queue until they are written or sent. So nothing is lost when the
 *	copy is stopped; but that has to wait for the op in flight, which has the buffers, and moves
 *	the position of the file.
 */

#include "iocpInt.h"

/*
 * So many buffers are received at most and not gone. A thread that writes is to have a good deal to
 * do each time; a send has no use for more.
 */
#define WRITE_AHEAD 32
#define SEND_AHEAD 4

/*
 * IocpMoveNew --
 *	A copy, which waits to start: of one that is NULL, the file takes the place.
 * Results:
 *	NULL if there is no descriptor or memory for it. Who asks fills in what is Tcl's.
 */
IocpCopy *
IocpMoveNew(IocpChan *fromPtr, IocpChan *toPtr, IocpFile file)
{
    IocpChan *chanPtr = toPtr != NULL ? toPtr : fromPtr;
    IocpFile ownFile = IOCP_NO_FILE;
    IocpCopy *copyPtr;

    if (toPtr != NULL && !IocpSendOpen(toPtr)) {
	return NULL;
    }
    if (file != IOCP_NO_FILE) {
	ownFile = IocpFileDup(file);
	if (ownFile == IOCP_NO_FILE) {
	    return NULL;
	}
    }
    copyPtr = IocpAlloc(chanPtr->threadPtr, sizeof(IocpCopy));
    if (copyPtr == NULL) {
	if (ownFile != IOCP_NO_FILE) {
	    IocpFileClose(ownFile);
	}
	return NULL;
    }
    copyPtr->fileOp.op = (IocpOp){
	.kind = toPtr == NULL ? IOCP_OP_WRITE_FILE
		: fromPtr == NULL ? IOCP_OP_SEND_FILE : IOCP_OP_SEND,
	.ownerPtr = chanPtr, .handlePtr = &chanPtr->handle
    };
    copyPtr->fileOp.file = ownFile;
    copyPtr->state = IOCP_COPY_WAITING;
    copyPtr->fromPtr = fromPtr;
    copyPtr->toPtr = toPtr;
    copyPtr->chanPtr = chanPtr;
    return copyPtr;
}

void
IocpMoveFree(IocpCopy *copyPtr)
{
    if (copyPtr->fileOp.file != IOCP_NO_FILE) {
	IocpFileClose(copyPtr->fileOp.file);
    }
    IocpFree(copyPtr->chanPtr->threadPtr, copyPtr, sizeof(IocpCopy));
}

/*
 * IocpMoveAttach, IocpMoveDetach --
 *	The copy reads and writes the connections; they belong to scripts again.
 */
void
IocpMoveAttach(IocpCopy *copyPtr)
{
    if (copyPtr->fromPtr != NULL) {
	IocpRecvEndRepeat(copyPtr->fromPtr);
	copyPtr->fromPtr->sourcePtr = copyPtr;
    }
    if (copyPtr->toPtr != NULL) {
	copyPtr->toPtr->sendPtr->copyPtr = copyPtr;
    }
}

void
IocpMoveDetach(IocpCopy *copyPtr)
{
    if (copyPtr->fromPtr != NULL) {
	copyPtr->fromPtr->sourcePtr = NULL;
	IocpEventTell(copyPtr->fromPtr);
    }
    if (copyPtr->toPtr != NULL) {
	copyPtr->toPtr->sendPtr->copyPtr = NULL;
    }
}

/*
 * IocpMoveSettle --
 *	Wait until no op of the copy is in flight. That is soon: it is cancelled, and for a file it
 *	is one write.
 */
void
IocpMoveSettle(IocpCopy *copyPtr)
{
    copyPtr->held++;
    while (copyPtr->fileOp.op.inFlight) {
	IocpOpCancel(copyPtr->chanPtr, &copyPtr->fileOp.op);
	IocpThreadWait(copyPtr->chanPtr->threadPtr, -1);
    }
    copyPtr->held--;
}

/*
 * IocpMoveCancel --
 *	Let the op in flight, if there is one, end soon.
 */
void
IocpMoveCancel(IocpChan *chanPtr)
{
    IocpCopy *copyPtr = chanPtr->sendPtr->filePtr;

    if (copyPtr != NULL) {
	IocpOpCancel(chanPtr, &copyPtr->fileOp.op);
    }
}

/*
 * IocpMoveReadEnds --
 *	The read side of the channel is about to be closed: what was received is discarded.
 */
void
IocpMoveReadEnds(IocpChan *chanPtr)
{
    if (chanPtr->sourcePtr != NULL) {
	IocpMoveSettle(chanPtr->sourcePtr);
	IocpEventDirty(chanPtr);
    }
}

/*
 * IocpMoveForget --
 *	In a forked child: the op in flight is the parent's.
 */
void
IocpMoveForget(IocpChan *chanPtr)
{
    IocpCopy *copies[] = {
	chanPtr->sendPtr->filePtr, chanPtr->sendPtr->copyPtr, chanPtr->sourcePtr
    };

    for (int i = 0; i < 3; i++) {
	if (copies[i] != NULL) {
	    copies[i]->fileOp.op.inFlight = 0;
	    copies[i]->state = IOCP_COPY_WAITING;
	}
    }
}

/*
 * IocpMoveTakes --
 *	Whether the copy that reads from the channel can do with another buffer.
 */
int
IocpMoveTakes(const IocpChan *chanPtr)
{
    const IocpChan *toPtr = chanPtr->sourcePtr->toPtr;

    return toPtr == NULL ? chanPtr->recvCount < WRITE_AHEAD
	    : chanPtr->recvCount < SEND_AHEAD && chanPtr->recvCount < toPtr->settingsPtr->sendCap;
}

/*
 * NextCount --
 *	How much of a file is to be sent next. It may have grown or shrunk meanwhile.
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
    return left < IOCP_COPY_MIN ? 0 : left < IOCP_FILE_MAX ? (size_t)left : IOCP_FILE_MAX;
}

/*
 * NextBufs --
 *	How many of the received buffers are to be written or sent next. The one with the last byte
 *	that is asked for is fcopy's.
 */
static int
NextBufs(const IocpCopy *copyPtr)
{
    const IocpBuf *bufPtr = copyPtr->fromPtr->recvFirstPtr;
    int64_t end = copyPtr->copied;
    int count = 0;

    for (; bufPtr != NULL && count < IOCP_VECS_MAX; bufPtr = bufPtr->nextPtr) {
	end += (int64_t)(bufPtr->end - bufPtr->start);
	if (copyPtr->size >= 0 && end >= copyPtr->size) {
	    break;
	}
	count++;
    }
    return count;
}

static void
End(IocpCopy *copyPtr)
{
    copyPtr->state = IOCP_COPY_ENDED;
    if (copyPtr->commandPtr != NULL) {
	IocpEventPost(copyPtr->chanPtr);
    } else {
	/*
	 * Drive is not to wait for anything. While the dirty channels are gone through, one that
	 * is yet to come cannot be put on the list again: the other one can.
	 */

	IocpEventDirty(copyPtr->chanPtr);
	if (copyPtr->fromPtr != NULL) {
	    IocpEventDirty(copyPtr->fromPtr);
	}
    }
}

/*
 * Gather --
 *	Make the op that is to move the next bytes.
 * Results:
 *	0 if there is nothing yet; or nothing for us any more, which is the end.
 */
static int
Gather(IocpCopy *copyPtr)
{
    IocpFileOp *fileOpPtr = &copyPtr->fileOp;
    const IocpChan *fromPtr = copyPtr->fromPtr;
    int more, ended;

    if (Tcl_GetTopChannel(copyPtr->in) != copyPtr->in
	    || Tcl_GetTopChannel(copyPtr->out) != copyPtr->out) {
	more = 0;
	ended = 1;
    } else if (fromPtr == NULL) {
	fileOpPtr->offset = copyPtr->start + copyPtr->copied;
	fileOpPtr->count = NextCount(copyPtr);
	more = fileOpPtr->count > 0;
	ended = !more;
    } else {
	fileOpPtr->op.bufPtr = fromPtr->recvFirstPtr;
	fileOpPtr->op.bufCount = NextBufs(copyPtr);
	more = fileOpPtr->op.bufCount > 0;
	ended = !more && (fromPtr->recvFirstPtr != NULL || fromPtr->recvError != 0
		|| (fromPtr->flags & IOCP_CHANF_EOF));
    }
    if (ended) {
	End(copyPtr);
    }
    return more;
}

static void
Start(IocpCopy *copyPtr)
{
    IocpChan *chanPtr = copyPtr->chanPtr, *toPtr = copyPtr->toPtr;

    if (copyPtr->state != IOCP_COPY_WAITING || copyPtr->held || chanPtr->waits) {
	return;
    }
    if (toPtr != NULL) {
	if (toPtr->sendPtr->filePtr != NULL) {
	    return;
	}
	if (toPtr->state != IOCP_OPEN || toPtr->sendError != 0
		|| (toPtr->flags & IOCP_CHANF_SHUT_WRITE)) {
	    End(copyPtr);
	    return;
	}
	if (toPtr->sendPtr->firstPtr != NULL || Tcl_OutputBuffered(toPtr->channel) > 0) {
	    return;
	}
    }
    if (Gather(copyPtr) && IocpOpSubmit(chanPtr, &copyPtr->fileOp.op)) {
	copyPtr->state = IOCP_COPY_MOVING;
	if (toPtr != NULL) {
	    toPtr->sendPtr->filePtr = copyPtr;
	}
    }
}

/*
 * IocpMoveStart --
 *	Something has changed with the channel that its copies may have waited for.
 */
void
IocpMoveStart(IocpChan *chanPtr)
{
    if (chanPtr->sendPtr->copyPtr != NULL) {
	Start(chanPtr->sendPtr->copyPtr);
    }
    if (chanPtr->sourcePtr != NULL) {
	Start(chanPtr->sourcePtr);
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
 * Moved --
 *	So many bytes more are copied.
 */
static void
Moved(IocpCopy *copyPtr, int count)
{
    IocpThread *threadPtr = copyPtr->chanPtr->threadPtr;

    copyPtr->copied += count;
    IOCP_COUNT(threadPtr, bytesCopied, count);
    if (copyPtr->toPtr != NULL) {
	IocpTimeoutSent(copyPtr->toPtr);
	IOCP_COUNT(threadPtr, bytesSent, count);
    }
    if (copyPtr->fromPtr != NULL) {
	IocpRecvConsume(copyPtr->fromPtr, (size_t)count);
	IocpEventDirty(copyPtr->fromPtr);	/* There is room for more. */
    } else if ((size_t)count < copyPtr->fileOp.count) {
	copyPtr->fileOp.op.flags = IOCP_OPF_EXPECT_WAIT;
    }
}

/*
 * IocpMoveDone --
 *	A part is copied. The copy it was for may have been stopped meanwhile.
 */
void
IocpMoveDone(IocpChan *chanPtr, const IocpCompletion *compPtr)
{
    IocpCopy *copyPtr = (IocpCopy *)compPtr->opPtr;
    IocpOp *opPtr = &copyPtr->fileOp.op;
    int stopped = copyPtr != chanPtr->sendPtr->copyPtr && copyPtr != chanPtr->sourcePtr;
    int error = compPtr->result < 0 ? -compPtr->result : 0;

    if (copyPtr->toPtr != NULL) {
	chanPtr->sendPtr->filePtr = NULL;
    }
    copyPtr->state = IOCP_COPY_WAITING;
    opPtr->flags = 0;
    if (compPtr->result > 0) {
	Moved(copyPtr, compPtr->result);
    }
    if (stopped) {
	IocpMoveFree(copyPtr);
    } else {
	switch (error) {
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
	    if (opPtr->kind == IOCP_OP_SEND
		    || (opPtr->kind == IOCP_OP_SEND_FILE && SocketFails(error))) {
		IocpChanError(chanPtr, error);
		chanPtr->sendError = error;
	    }
	    End(copyPtr);
	    break;
	}
    }
    IocpEventDirty(chanPtr);	/* What comes next: the next part, or a write after a stop. */
}
