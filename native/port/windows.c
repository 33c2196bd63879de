/*
 * windows.c --
 *	What windows.h declares.
 */

#include "../iocpPort.h"
#include <process.h>

/*
 * IocpErrno --
 *	What errno.h calls an error of Winsock's or of the system's. Some of the latter are how the
 *	end of an overlapped call words what Winsock has another number for.
 */
int
IocpErrno(DWORD error)
{
    switch (error) {
    case NO_ERROR: return 0;
    case WSAEINTR: return EINTR;
    case WSAEBADF: case ERROR_INVALID_HANDLE: return EBADF;
    case WSAEACCES: case ERROR_ACCESS_DENIED: return EACCES;
    case WSAEFAULT: case ERROR_NOACCESS: return EFAULT;
    case WSAEINVAL: case ERROR_INVALID_PARAMETER: return EINVAL;
    case WSAEMFILE: case ERROR_TOO_MANY_OPEN_FILES: return EMFILE;
    case WSAEWOULDBLOCK: return EAGAIN;
    case WSAEINPROGRESS: case WSA_IO_PENDING: return EINPROGRESS;
    case WSAEALREADY: return EALREADY;
    case WSAENOTSOCK: return ENOTSOCK;
    case WSAEDESTADDRREQ: return EDESTADDRREQ;
    case WSAEMSGSIZE: return EMSGSIZE;
    case WSAEPROTOTYPE: return EPROTOTYPE;
    case WSAENOPROTOOPT: return ENOPROTOOPT;
    case WSAEPROTONOSUPPORT: case WSAESOCKTNOSUPPORT: return EPROTONOSUPPORT;
    case WSAEOPNOTSUPP: return EOPNOTSUPP;
    case WSAEAFNOSUPPORT: case WSAEPFNOSUPPORT: return EAFNOSUPPORT;
    case WSAEADDRINUSE: case ERROR_ADDRESS_ALREADY_ASSOCIATED: return EADDRINUSE;
    case WSAEADDRNOTAVAIL: case ERROR_INVALID_NETNAME: return EADDRNOTAVAIL;
    case WSAENETDOWN: return ENETDOWN;
    case WSAENETUNREACH: case ERROR_NETWORK_UNREACHABLE: return ENETUNREACH;
    case WSAENETRESET: return ENETRESET;
    case WSAECONNABORTED: case ERROR_CONNECTION_ABORTED: return ECONNABORTED;
    case WSAECONNRESET: case ERROR_NETNAME_DELETED: return ECONNRESET;
    case WSAENOBUFS: case ERROR_NO_SYSTEM_RESOURCES: case ERROR_WORKING_SET_QUOTA: return ENOBUFS;
    case WSAEISCONN: return EISCONN;
    case WSAENOTCONN: case ERROR_GRACEFUL_DISCONNECT: return ENOTCONN;
    case WSAESHUTDOWN: return EPIPE;
    case WSAETIMEDOUT: case ERROR_SEM_TIMEOUT: return ETIMEDOUT;
    case WSAECONNREFUSED: case ERROR_CONNECTION_REFUSED: return ECONNREFUSED;
    case WSAEHOSTUNREACH: case WSAEHOSTDOWN: case ERROR_HOST_UNREACHABLE:
    case ERROR_PROTOCOL_UNREACHABLE: case ERROR_PORT_UNREACHABLE: return EHOSTUNREACH;
    case ERROR_NOT_ENOUGH_MEMORY: case ERROR_OUTOFMEMORY: case ERROR_COMMITMENT_LIMIT:
	return ENOMEM;
    case ERROR_OPERATION_ABORTED: case ERROR_REQUEST_ABORTED: return ECANCELED;
    case ERROR_DISK_FULL: case ERROR_HANDLE_DISK_FULL: return ENOSPC;
    case ERROR_BROKEN_PIPE: case ERROR_NO_DATA: return EPIPE;
    case ERROR_NOT_SUPPORTED: return EOPNOTSUPP;
    default: return EIO;
    }
}

/*
 * Checked --
 *	The result of a Winsock call, with errno.
 */
static int
Checked(int result)
{
    if (result != 0) {
	errno = IocpErrno((DWORD)WSAGetLastError());
	return -1;
    }
    return 0;
}

typedef struct Start {
    void *(*proc)(void *arg);
    void *arg;
} Start;

static unsigned __stdcall
Body(void *startPtr)
{
    Start start = *(Start *)startPtr;

    free(startPtr);
    start.proc(start.arg);
    return 0;
}

/*
 * IocpSpawn --
 *	Start a thread that nobody joins. Tcl unloads what it has loaded when it is finalized, and
 *	such a thread may run on: so the library stays from then on.
 * Results:
 *	0 or an errno.
 */
int
IocpSpawn(void *(*proc)(void *arg), void *arg)
{
    Start *startPtr = malloc(sizeof(Start));
    HMODULE module;
    uintptr_t thread;

    if (startPtr == NULL) {
	return ENOMEM;
    }
    GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
	    (LPCSTR)(uintptr_t)Body, &module);
    *startPtr = (Start){proc, arg};
    thread = _beginthreadex(NULL, 0, Body, startPtr, 0, NULL);
    if (thread == 0) {
	int error = errno;

	free(startPtr);
	return error;
    }
    CloseHandle((HANDLE)thread);
    return 0;
}

/*
 * IocpModulePath --
 *	The file of the library that holds the address, with slashes as Tcl has them; NULL if the
 *	system does not say.
 */
const char *
IocpModulePath(const void *address)
{
    static char path[4 * MAX_PATH];
    WCHAR wide[MAX_PATH];
    HMODULE module;
    DWORD length;

    if (!GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS
	    | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, (LPCWSTR)address, &module)) {
	return NULL;
    }
    length = GetModuleFileNameW(module, wide, MAX_PATH);
    if (length == 0 || length == MAX_PATH || WideCharToMultiByte(CP_UTF8, 0, wide, -1, path,
	    sizeof(path), NULL, NULL) == 0) {
	return NULL;
    }
    for (char *p = path; *p != '\0'; p++) {
	*p = *p == '\\' ? '/' : *p;
    }
    return path;
}

/* Monotonic time in nanoseconds. */
uint64_t
IocpNow(void)
{
    static _Atomic uint64_t perSecond = 0;
    uint64_t frequency = atomic_load_explicit(&perSecond, memory_order_relaxed);
    LARGE_INTEGER count;
    uint64_t ticks;

    if (frequency == 0) {
	QueryPerformanceFrequency(&count);
	frequency = (uint64_t)count.QuadPart;
	atomic_store_explicit(&perSecond, frequency, memory_order_relaxed);
    }
    QueryPerformanceCounter(&count);
    ticks = (uint64_t)count.QuadPart;
    return ticks / frequency * IOCP_SECOND + ticks % frequency * IOCP_SECOND / frequency;
}

/*
 * IocpWinsock --
 *	Begin to use Winsock; for the rest of the process, since closed channels may have to send to
 *	its end.
 * Results:
 *	0 or an errno.
 */
int
IocpWinsock(void)
{
    static IocpMutex mutex = IOCP_MUTEX_INIT;
    static int started = 0;
    WSADATA data;
    int error = 0;

    IocpMutexLock(&mutex);
    if (!started) {
	error = IocpErrno((DWORD)WSAStartup(MAKEWORD(2, 2), &data));
	started = error == 0;
    }
    IocpMutexUnlock(&mutex);
    return error;
}

/*
 * IocpSocketOpen --
 *	A stream socket that child processes do not inherit; protocol 0: TCP.
 * Results:
 *	IOCP_NO_SOCKET and errno on failure.
 */
IocpSocket
IocpSocketOpen(int family, int protocol)
{
    SOCKET s = WSASocketW(family, SOCK_STREAM, protocol == 0 ? IPPROTO_TCP : protocol, NULL, 0,
	    WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);

    Checked(s == INVALID_SOCKET);
    return (IocpSocket)s;
}

/*
 * IocpSocketDup --
 *	Another descriptor of the socket. From which number on does not matter.
 * Results:
 *	IOCP_NO_SOCKET and errno on failure.
 */
IocpSocket
IocpSocketDup(IocpSocket fd, int from)
{
    WSAPROTOCOL_INFOW info;
    SOCKET s;

    (void)from;
    if (Checked(WSADuplicateSocketW((SOCKET)fd, GetCurrentProcessId(), &info)) < 0) {
	return IOCP_NO_SOCKET;
    }
    s = WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &info, 0,
	    WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    Checked(s == INVALID_SOCKET);
    return (IocpSocket)s;
}

int
IocpSocketBind(IocpSocket fd, const struct sockaddr *addrPtr, socklen_t length)
{
    return Checked(bind((SOCKET)fd, addrPtr, length));
}

int
IocpSocketClose(IocpSocket fd)
{
    return Checked(closesocket((SOCKET)fd));
}

/*
 * IocpSocketGetopt, IocpSocketSetopt --
 *	SO_REUSEADDR has the meaning of POSIX, to listen where connections of another time linger.
 *	Windows always lets one do that. What it calls by the name lets two programs listen at one
 *	address, and neither knows which connections are its own. SO_ERROR tells nothing: each error
 *	is that of an op, which has told it, and Wine goes on telling that of a connect.
 */
int
IocpSocketGetopt(IocpSocket fd, int level, int option, void *value, socklen_t *lengthPtr)
{
    if (option == IOCP_NO_OPTION) {
	errno = EOPNOTSUPP;
	return -1;
    }
    if (level == SOL_SOCKET && (option == SO_REUSEADDR || option == SO_REUSEPORT)) {
	*(int *)value = option == SO_REUSEADDR;
	return 0;
    }
    if (level == SOL_SOCKET && option == SO_ERROR) {
	*(int *)value = 0;
	return 0;
    }
    return Checked(getsockopt((SOCKET)fd, level, option, value, lengthPtr));
}

int
IocpSocketSetopt(IocpSocket fd, int level, int option, const void *value, socklen_t length)
{
    if (option == IOCP_NO_OPTION || (option == SO_REUSEPORT && *(const int *)value != 0)) {
	errno = EOPNOTSUPP;
	return -1;
    }
    if (level == SOL_SOCKET && (option == SO_REUSEADDR || option == SO_REUSEPORT)) {
	return 0;
    }
    return Checked(setsockopt((SOCKET)fd, level, option, value, length));
}

int
IocpSocketListen(IocpSocket fd, int backlog)
{
    return Checked(listen((SOCKET)fd, backlog));
}

int
IocpSocketName(IocpSocket fd, struct sockaddr *addrPtr, socklen_t *lengthPtr)
{
    return Checked(getsockname((SOCKET)fd, addrPtr, lengthPtr));
}

int
IocpSocketPeer(IocpSocket fd, struct sockaddr *addrPtr, socklen_t *lengthPtr)
{
    return Checked(getpeername((SOCKET)fd, addrPtr, lengthPtr));
}

int
IocpSocketShutdown(IocpSocket fd, int how)
{
    return Checked(shutdown((SOCKET)fd, how));
}

/* AF_INET or AF_INET6. */
int
IocpSocketFamily(IocpSocket fd)
{
    WSAPROTOCOL_INFOW info;
    int length = sizeof(info);

    return getsockopt((SOCKET)fd, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&info, &length) == 0
	    ? info.iAddressFamily : AF_INET;
}

/* Wait until one of the events has happened, or for so long: those that have. */
int
IocpSocketPoll(IocpSocket fd, short events, int timeoutMs)
{
    WSAPOLLFD poller = {.fd = (SOCKET)fd, .events = events};

    return WSAPoll(&poller, 1, timeoutMs) > 0 ? poller.revents : 0;
}

/* Send what there is room for, on a socket of an engine: a count or -errno. */
int
IocpSocketSendNow(IocpSocket fd, const char *data, size_t size)
{
    int result = send((SOCKET)fd, data, size > INT_MAX ? INT_MAX : (int)size, 0);

    return result == SOCKET_ERROR ? -IocpErrno((DWORD)WSAGetLastError()) : result;
}

/*
 * IocpSocketUnsent --
 *	A number that falls as the peer takes what is sent. Windows tells what has left and what of
 *	it is under way, not what is still to leave.
 */
int
IocpSocketUnsent(IocpSocket fd)
{
    TCP_INFO_v0 info;
    DWORD version = 0, size;

    if (WSAIoctl((SOCKET)fd, SIO_TCP_INFO, &version, sizeof(version), &info, sizeof(info), &size,
	    NULL, NULL) != 0) {
	return 0;
    }
    return -(int)((info.BytesOut - info.BytesInFlight) & INT_MAX);
}

/*
 * IocpIsSameFile --
 *	Whether two handles are of one socket.
 */
int
IocpIsSameFile(int one, int other)
{
    static BOOL (WINAPI *compare)(HANDLE one, HANDLE other) = NULL;

    if (compare == NULL) {
	compare = (BOOL (WINAPI *)(HANDLE, HANDLE))(void (*)(void))GetProcAddress(
		GetModuleHandleA("kernelbase"), "CompareObjectHandles");
    }
    return one == other || (compare != NULL
	    && compare((HANDLE)(intptr_t)one, (HANDLE)(intptr_t)other));
}

/* Another handle of an open file; IOCP_NO_FILE and errno if there is none. */
IocpFile
IocpFileDup(IocpFile file)
{
    HANDLE process = GetCurrentProcess(), copy;

    if (!DuplicateHandle(process, (HANDLE)(intptr_t)file, process, &copy, 0, FALSE,
	    DUPLICATE_SAME_ACCESS)) {
	errno = IocpErrno(GetLastError());
	return IOCP_NO_FILE;
    }
    return (IocpFile)(intptr_t)copy;
}

/* The bytes of a regular file; -1: it is none. */
int64_t
IocpFileSize(IocpFile file)
{
    HANDLE handle = (HANDLE)(intptr_t)file;
    LARGE_INTEGER size;

    return GetFileType(handle) == FILE_TYPE_DISK && GetFileSizeEx(handle, &size)
	    ? size.QuadPart : -1;
}

/*
 * IocpGetenv --
 *	What the process has now: the C library keeps a copy, and each module may have another C
 *	library.
 */
const char *
IocpGetenv(const char *name, char *buf, size_t size)
{
    DWORD length = GetEnvironmentVariableA(name, buf, (DWORD)size);

    return length > 0 && length < size ? buf : NULL;
}
