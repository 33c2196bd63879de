/*
 * engine.h --
 *	The seam between the channel driver and the completion engines.
 *
 *	Above it, everything is an op (one request) and its completion (its result). An engine that
 *	only knows readiness, such as epoll, waits, makes the system call and completes the op, all
 *	by itself; nothing above the seam knows which engine runs.
 *
 * The contract:
 *  1. A submitted op that was answered IOCP_QUEUED is reaped exactly once, with a count or a
 *     negative errno. A multishot op (accept, IOCP_OPF_REPEAT) is reaped once per result; each
 *     result but the last has IOCP_COMPF_MORE. An op that was answered IOCP_BUSY still belongs to
 *     the caller, who reaps and submits it again.
 *  2. From IOCP_QUEUED to its last completion the engine owns the op's engine part and the memory
 *     that its buffers name. Nobody else writes or frees either. The driver may append to the
 *     chain of buffers behind the last of bufCount.
 *  3. Results are >= 0 or a negative errno.
 *  4. An engine never calls Tcl and never calls the driver back: only reapProc delivers.
 *  5. cancelProc is a wish. The op still completes: with -ECANCELED, or with what came first.
 *  6. An engine belongs to the thread that opened it and is used by no other.
 *  7. Ops reach the kernel no later than the next reapProc, or a waitProc that blocks.
 *  8. A handle's descriptor is closed only after the last of its ops is reaped and it is detached.
 *  9. Each pool buffer in a completion belongs to the driver until it calls releaseProc.
 * 10. Files are read and written off the thread that submits the op, since disks block; an op that
 *     waits for its peer holds no thread. The caller keeps the file open until the op is reaped. Of
 *     ops that send on a handle, IOCP_OP_SEND_FILE included, one is in flight at a time.
 */

#ifndef IOCP_ENGINE_H
#define IOCP_ENGINE_H

#include "../iocpPort.h"

#define IOCP_ENGINE_VERSION 5

typedef struct IocpEngine IocpEngine;
typedef struct IocpHandle IocpHandle;
typedef struct IocpBuf IocpBuf;
typedef struct IocpOp IocpOp;

/*
 * Bytes on their way in or out: data[start..end) is what counts.
 * Owner: the chain it is linked in; whoever unlinks it frees it (IocpBufFree).
 */
struct IocpBuf {
    IocpBuf *nextPtr;
    char *data;
    size_t size;		/* Bytes at data. */
    size_t start;		/* First byte not consumed yet. */
    size_t end;			/* Behind the last byte filled. */
    int poolId;			/* Index in the engine's pool, or -1: allocated for itself. */
};

/*
 * A socket as an engine sees it. Embedded in its owner, which outlives every op on it.
 */
struct IocpHandle {
    IocpSocket fd;
    /* Engine part, of those engines that wait for readiness: */
    unsigned flags;
    IocpOp *readOpPtr;		/* Waits for the socket to become readable. */
    IocpOp *writeOpPtr;		/* Waits for the socket to become writable. */
};

typedef enum IocpOpKind {
    IOCP_OP_ACCEPT,		/* Multishot; each result is a connected, close-on-exec socket. */
    IOCP_OP_CONNECT,		/* See IocpConnectOp. */
    IOCP_OP_RECV,		/* Into bufPtr's chain, or into a pool buffer where it is NULL. */
    IOCP_OP_SEND,		/* bufCount buffers from bufPtr on, in order; may be short. */
    IOCP_OP_SEND_FILE,		/* A part of a file, see IocpFileOp; may be short. 0: the file ends
				 * before it. */
    IOCP_OP_WRITE_FILE		/* bufCount buffers from bufPtr on, in order, to a file, see
				 * IocpFileOp; may be short. The handle is left alone. */
} IocpOpKind;

#define IOCP_VECS_MAX 64		/* Buffers of one op. */

#define IOCP_OPF_EXPECT_WAIT 1	/* Hint: there is nothing to receive, or no room to send, yet. */
#define IOCP_OPF_SHARED 2	/* IOCP_OP_ACCEPT: other processes accept from it, too, and it does
				 * not block. No more than bufCount are taken, and none is kept
				 * from the others until the thread gets round to it. */
#define IOCP_OPF_REPEAT 4	/* IOCP_OP_RECV into pool buffers: it may go on after its first
				 * result, and ends with that which brings it to IOCP_REPEAT_MAX
				 * bytes or above. */
#define IOCP_REPEAT_MAX 32768

/*
 * An op is in flight (inFlight) from IocpOpSubmit to the completion without IOCP_COMPF_MORE, which
 * IocpThreadReap takes in. Meanwhile it holds one reference to the channel that owns it.
 */
struct IocpOp {
    /* Driver part: */
    IocpOpKind kind;
    int inFlight;
    void *ownerPtr;		/* IocpChan, or IocpAcceptor for IOCP_OP_ACCEPT. */
    /* Request, read by the engine: */
    IocpHandle *handlePtr;
    unsigned flags;		/* IOCP_OPF_*; it may clear them. A cancel clears
				 * IOCP_OPF_REPEAT before the engine hears of it. */
    int bufCount;		/* IOCP_OP_ACCEPT: so many are wanted. Engines that can, stop then;
				 * others deliver until the op is cancelled. */
    IocpBuf *bufPtr;
    /* Engine part: */
    IocpOp *nextPtr;
    void *requestPtr;		/* What the kernel has of it, where that is something apart. */
    unsigned engineFlags;
    int repeated;		/* Bytes that IOCP_OPF_REPEAT has brought. */
};

/* The op of kind IOCP_OP_CONNECT. */
typedef struct IocpConnectOp {
    IocpOp op;			/* Must be first. */
    const struct sockaddr *addrPtr;
    socklen_t addrLen;
} IocpConnectOp;

#define IOCP_FILE_MAX 1048576	/* Bytes of one op. */

/*
 * The op of kind IOCP_OP_SEND_FILE or IOCP_OP_WRITE_FILE. linkPtr and result are the engine's, or
 * those of whoever does the work for it; cancelled may be set while that one works.
 */
typedef struct IocpFileOp {
    IocpOp op;			/* Must be first. */
    /* Request, read by the engine: */
    IocpFile file;		/* A regular one. It is written at its own position, which moves,
				 * or at its end if it was opened to append. */
    /* To be sent: */
    int64_t offset;		/* Of the first byte. The file's own position is left alone. */
    size_t count;		/* Bytes at most: 1 to IOCP_FILE_MAX. */
    /* Engine part: */
    struct IocpFileOp *linkPtr;
    struct IocpFileJobs *jobsPtr;
    int result;
    _Atomic int cancelled;
} IocpFileOp;

/* Whether an op is an IocpFileOp. */
static inline int
IocpOpIsFile(const IocpOp *opPtr)
{
    return opPtr->kind == IOCP_OP_SEND_FILE || opPtr->kind == IOCP_OP_WRITE_FILE;
}

#define IOCP_COMPF_MORE 1	/* The op stays in flight: more completions follow. */
#define IOCP_COMPF_MORE_DATA 2	/* The socket is known to hold more to receive. */

typedef struct IocpCompletion {
    IocpOp *opPtr;
    int result;			/* Count, descriptor, or negative errno. */
    unsigned flags;		/* IOCP_COMPF_* */
    IocpBuf *bufPtr;		/* The pool buffers that a receive was put into, or NULL. Each but
				 * the last is full. */
} IocpCompletion;

typedef enum IocpSubmit { IOCP_QUEUED, IOCP_BUSY } IocpSubmit;

/* What an engine counts; read by other threads, so relaxed atomics. */
typedef struct IocpEngineCounts {
    _Atomic uint64_t enters;	/* System calls that submit, receive, send or fetch results. */
    _Atomic uint64_t waits;	/* Those that may have blocked. */
    _Atomic uint64_t poolBytes;	/* Memory of the receive pool. */
} IocpEngineCounts;

typedef void IocpAlertProc(void *clientData);

typedef struct IocpEngineType {
    const char *typeName;	/* Users see it; it never changes. */
    int version;		/* IOCP_ENGINE_VERSION; select.c refuses another. */
    int (*probeProc)(char *reason, size_t size);
				/* Set one up and throw it away: 0, or -errno and why in words. */
    int (*openProc)(IocpEngine **enginePtrPtr);
				/* 0 or -errno. */
    void (*closeProc)(IocpEngine *enginePtr);
				/* Only when no op is in flight. */
    void (*attachProc)(IocpEngine *enginePtr, IocpHandle *handlePtr);
				/* The handle's descriptor is about to be used on this engine. It
				 * is a blocking one, and stays so between ops; but see
				 * IOCP_OPF_SHARED. */
    void (*detachProc)(IocpEngine *enginePtr, IocpHandle *handlePtr);
				/* No op of it is in flight; forget it. */
    IocpSubmit (*submitProc)(IocpEngine *enginePtr, IocpOp *opPtr);
    void (*cancelProc)(IocpEngine *enginePtr, IocpOp *opPtr);
    void (*leaveProc)(IocpEngine *enginePtr, IocpOp *opPtr);
				/* An op that sends stays in flight while its channel goes to
				 * another thread: from now on nobody reaps it. NULL: it can be
				 * cancelled, and the result is what the peer gets of it. Where it
				 * is not NULL, the connection is of no use after a cancel. */
    void (*joinProc)(IocpEngine *enginePtr, IocpOp *opPtr);
				/* Such an op is this engine's, after attachProc. */
    int (*sendNowProc)(IocpEngine *enginePtr, IocpHandle *handlePtr, const char *data,
	    size_t size);	/* Send what the kernel takes at once: a count or -errno. Only while
				 * no send on the handle, nor of a file, is in flight. */
    int (*pushProc)(IocpHandle *handlePtr, const char *data, size_t size);
				/* The same, for other threads: it uses the descriptor alone. */
    int (*reapProc)(IocpEngine *enginePtr, IocpCompletion *completions, int max);
				/* Hand over what was submitted, fetch what is complete, never
				 * block. Returns how many. */
    int (*waitProc)(IocpEngine *enginePtr, int64_t timeoutNs);
				/* The same, but block until something can be reaped. -1: for ever.
				 * May return early: 0, or -EINTR after a signal, or
				 * when the process was stopped and goes on. */
    void (*attendProc)(IocpEngine *enginePtr, int fd);
				/* Let waitProc return, once, when fd is readable too; see
				 * IocpEngine.attending. -1: forget it, it is about to be closed. */
    int (*armProc)(IocpEngine *enginePtr, int armed);
				/* 1: the caller is about to wait on notifyFd. Returns whether there
				 * is something to reap already. 0: it does not wait any more. */
    int (*notifyFdProc)(IocpEngine *enginePtr);
				/* While armed, becomes readable when there is something to reap.
				 * -1: alertProc does it. */
    void (*alertProc)(IocpEngine *enginePtr, IocpAlertProc *proc, void *clientData);
				/* While armed, another thread calls proc, once, when there is
				 * something to reap; NULL: nobody is to be told any more. Only of
				 * engines that have no notifyFd. */
    void (*notifiedProc)(IocpEngine *enginePtr);
				/* notifyFd was readable. */
    void (*releaseProc)(IocpEngine *enginePtr, IocpBuf *bufPtr);
				/* A pool buffer comes back. */
    void (*forkedProc)(IocpEngine *enginePtr);
				/* In a forked child: close what it has inherited, and touch nothing
				 * that it shares with its parent. Nothing else is called again. */
} IocpEngineType;

/* First member of every engine's own structure. */
struct IocpEngine {
    const IocpEngineType *typePtr;
    IocpEngineCounts counts;
    int attending;		/* Not yet readable: what attendProc was given. 0: it is, or there
				 * is no such descriptor. */
};

/* Owner-thread increment that other threads may read at any time. */
#define IOCP_ADD(counter, n) \
    atomic_store_explicit(&(counter), \
	    atomic_load_explicit(&(counter), memory_order_relaxed) + (uint64_t)(n), \
	    memory_order_relaxed)

/* select.c: the engines of this build, in order of preference, ending in NULL. */
#define IOCP_ENGINES_MAX 8
extern const IocpEngineType *const iocpEngineTypes[];
IocpEngine *IocpEngineOpen(char *reason, size_t size);

extern const IocpEngineType iocpUringEngine;
int IocpUringEcho(void);
extern const IocpEngineType iocpEpollEngine;
extern const IocpEngineType iocpSimEngine;
extern const IocpEngineType iocpWinEngine;

/* fault.c (tests only): what can be made to fail; an op's kind, or a send that is not an op. */
#define IOCP_FAULT_SEND_NOW (IOCP_OP_WRITE_FILE + 1)
#define IOCP_FAULT_KINDS (IOCP_FAULT_SEND_NOW + 1)
#define IOCP_FAULT_BUSY 1	/* The engine is busy, or the kernel takes nothing at once. */
void IocpFaultOrder(IocpEngine *enginePtr, int kind, int result, int count, int skip);
int IocpFaultsEnd(void);

/*
 * common.c: receive buffers shared by all connections of an engine, so that a connection that has
 * nothing to say costs no buffer. Grows by a chunk at a time; never shrinks.
 */
#define IOCP_POOL_BUFSIZE 32768
#define IOCP_POOL_CHUNK 32
#define IOCP_POOL_CHUNKS_MAX 64
#define IOCP_POOL_MAX (IOCP_POOL_CHUNK * IOCP_POOL_CHUNKS_MAX)

typedef struct IocpPool {
    int chunkCount;
    IocpBuf *chunks[IOCP_POOL_CHUNKS_MAX];
    char *memory[IOCP_POOL_CHUNKS_MAX];
} IocpPool;

IocpBuf *IocpPoolGrow(IocpPool *poolPtr);
IocpBuf *IocpPoolGet(IocpPool *poolPtr, int poolId);
void IocpPoolFree(IocpPool *poolPtr);

/* The first max buffers of a chain, as the kernel wants them. */
int IocpFillVecs(IocpVec *vecs, int max, const IocpOp *opPtr);

/* sendNowProc and pushProc where sockets are what POSIX says. */
int IocpSendNow(IocpEngine *enginePtr, IocpHandle *handlePtr, const char *data, size_t size);
int IocpPush(IocpHandle *handlePtr, const char *data, size_t size);

/* none.c: what channels have where no engine can be. Never chosen. */
extern IocpEngine iocpNoEngine;

#endif /* IOCP_ENGINE_H */
