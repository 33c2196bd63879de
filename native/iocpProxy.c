/*
 * iocpProxy.c --
 *	-proxyprotocol: who a connection is from is what a proxy says, in a header before everything
 *	else. Both versions of https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt.
 *
 *	A connection whose header is awaited is a channel that Tcl does not know yet, on a list of
 *	its listener. When the header has come, it joins what the accept procedure is to get; what
 *	lies behind the header is the beginning of its data. Without one it is closed: when
 *	something else comes, or the end, or nothing for IOCP_PROXY_WAIT, or when too many others
 *	wait.
 *
 *	  awaited -> accepted	IocpProxyReceived
 *	  awaited -> gone	IocpProxyRefuse, IocpProxyClose
 */

#include "iocpInt.h"

#define V1_MAX 107		/* With the end of the line. */
#define V2_FIXED 16
#define V2_INET 12		/* Bytes of the addresses and ports. */
#define V2_INET6 36

static const char v1Start[] = "PROXY ";
static const char v2Start[] = "\r\n\r\n\0\r\nQUIT\n";

/*
 * Begins --
 *	Whether what there is of a header begins like this, as far as it goes.
 */
static int
Begins(const char *bytes, size_t size, const char *start, size_t length)
{
    return memcmp(bytes, start, size < length ? size : length) == 0;
}

/*
 * ParsePort --
 *	A decimal number without leading zeros, up to the end of its word.
 */
static int
ParsePort(const char *word, in_port_t *portPtr)
{
    char *end;
    unsigned long port = strtoul(word, &end, 10);

    if (word[0] < '0' || word[0] > '9' || *end != '\0' || port > 0xFFFF
	    || (word[0] == '0' && word[1] != '\0')) {
	return 0;
    }
    *portPtr = htons((uint16_t)port);
    return 1;
}

static int
ParseAddress(const char *host, const char *port, int family, IocpSockaddr *addrPtr)
{
    memset(addrPtr, 0, sizeof(*addrPtr));
    addrPtr->sa.sa_family = (sa_family_t)family;
    if (family == AF_INET) {
	return inet_pton(AF_INET, host, &addrPtr->sa4.sin_addr) == 1
		&& ParsePort(port, &addrPtr->sa4.sin_port);
    }
    return inet_pton(AF_INET6, host, &addrPtr->sa6.sin6_addr) == 1
	    && ParsePort(port, &addrPtr->sa6.sin6_port);
}

/*
 * ParseText --
 *	Version 1, a line: PROXY TCP4|TCP6 source destination port port, or PROXY UNKNOWN and
 *	anything.
 */
static int
ParseText(const char *bytes, size_t size, IocpProxyAddrs *addrsPtr)
{
    char line[V1_MAX + 1], *words[6], *next = line;
    size_t length = 0, max = size < V1_MAX ? size : V1_MAX;
    int count = 0, family;

    while (length < max && bytes[length] != '\r' && bytes[length] != '\n') {
	length++;
    }
    if (length + 1 >= max) {
	return max == V1_MAX || (length < max && bytes[length] == '\n') ? -1 : 0;
    }
    if (bytes[length] != '\r' || bytes[length + 1] != '\n' || memchr(bytes, '\0', length) != NULL) {
	return -1;
    }
    memcpy(line, bytes, length);
    line[length] = '\0';
    addrsPtr->known = 0;
    if (strcmp(line, "PROXY UNKNOWN") == 0 || strncmp(line, "PROXY UNKNOWN ", 14) == 0) {
	return (int)length + 2;
    }
    while (next != NULL && count < 6) {
	words[count++] = next;
	next = strchr(next, ' ');
	if (next != NULL) {
	    *next++ = '\0';
	}
    }
    if (count < 6 || next != NULL
	    || (strcmp(words[1], "TCP4") != 0 && strcmp(words[1], "TCP6") != 0)) {
	return -1;
    }
    family = words[1][3] == '4' ? AF_INET : AF_INET6;
    if (!ParseAddress(words[2], words[4], family, &addrsPtr->peer)
	    || !ParseAddress(words[3], words[5], family, &addrsPtr->local)) {
	return -1;
    }
    addrsPtr->known = 1;
    return (int)length + 2;
}

/*
 * ParseBinary --
 *	Version 2. What follows the addresses is of no interest here; nor are addresses of another
 *	kind than ours.
 */
static int
ParseBinary(const char *bytes, size_t size, IocpProxyAddrs *addrsPtr)
{
    const unsigned char *fixed = (const unsigned char *)bytes;
    const char *block = bytes + V2_FIXED;
    size_t length;
    int command, family, transport;

    if (size < V2_FIXED) {
	return size > 12 && fixed[12] >> 4 != 2 ? -1 : 0;
    }
    command = fixed[12] & 0xF;
    family = fixed[13] >> 4;
    transport = fixed[13] & 0xF;
    length = (size_t)fixed[14] << 8 | fixed[15];
    if (fixed[12] >> 4 != 2 || command > 1 || V2_FIXED + length > IOCP_PROXY_MAX) {
	return -1;
    }
    if (command == 1 && (family > 3 || transport > 2
	    || (family == 1 && length < V2_INET) || (family == 2 && length < V2_INET6))) {
	return -1;
    }
    if (size < V2_FIXED + length) {
	return 0;
    }
    memset(addrsPtr, 0, sizeof(*addrsPtr));
    addrsPtr->known = command == 1 && transport == 1 && (family == 1 || family == 2);
    if (addrsPtr->known && family == 1) {
	addrsPtr->peer.sa.sa_family = addrsPtr->local.sa.sa_family = AF_INET;
	memcpy(&addrsPtr->peer.sa4.sin_addr, block, 4);
	memcpy(&addrsPtr->local.sa4.sin_addr, block + 4, 4);
	memcpy(&addrsPtr->peer.sa4.sin_port, block + 8, 2);
	memcpy(&addrsPtr->local.sa4.sin_port, block + 10, 2);
    } else if (addrsPtr->known) {
	addrsPtr->peer.sa.sa_family = addrsPtr->local.sa.sa_family = AF_INET6;
	memcpy(&addrsPtr->peer.sa6.sin6_addr, block, 16);
	memcpy(&addrsPtr->local.sa6.sin6_addr, block + 16, 16);
	memcpy(&addrsPtr->peer.sa6.sin6_port, block + 32, 2);
	memcpy(&addrsPtr->local.sa6.sin6_port, block + 34, 2);
    }
    return (int)(V2_FIXED + length);
}

/*
 * IocpProxyParse --
 *	A header at the beginning of what a connection has received. *addrsPtr is what it says, if
 *	it is complete; where it says nothing that is of use, known is 0.
 * Results:
 *	The length of the header; 0 if it is not complete yet; -1 if this is none.
 */
int
IocpProxyParse(const char *bytes, size_t size, IocpProxyAddrs *addrsPtr)
{
    if (Begins(bytes, size, v1Start, sizeof(v1Start) - 1)) {
	return ParseText(bytes, size, addrsPtr);
    }
    if (Begins(bytes, size, v2Start, sizeof(v2Start) - 1)) {
	return ParseBinary(bytes, size, addrsPtr);
    }
    return -1;
}

/*
 * Settle --
 *	The connection's header is awaited no more.
 */
static void
Settle(IocpChan *chanPtr)
{
    IocpProxy *proxyPtr = chanPtr->proxyPtr;
    IocpListener *listenerPtr = proxyPtr->listenPtr->listenerPtr;
    IocpChan *prevPtr = proxyPtr->prevPtr, *nextPtr = proxyPtr->nextPtr;

    *(prevPtr != NULL ? &prevPtr->proxyPtr->nextPtr : &listenerPtr->proxyFirstPtr) = nextPtr;
    *(nextPtr != NULL ? &nextPtr->proxyPtr->prevPtr : &listenerPtr->proxyLastPtr) = prevPtr;
    listenerPtr->proxyCount--;
    proxyPtr->listenPtr = NULL;
}

void
IocpProxyFree(IocpChan *chanPtr)
{
    if (chanPtr->proxyPtr != NULL) {
	IocpBufFreeChain(chanPtr->threadPtr, chanPtr->proxyPtr->headPtr);
	IocpFree(chanPtr->threadPtr, chanPtr->proxyPtr, sizeof(IocpProxy));
	chanPtr->proxyPtr = NULL;
    }
}

/*
 * IocpProxyAwaits --
 *	Whether the connection's header is awaited, so that Tcl does not know it.
 */
int
IocpProxyAwaits(const IocpChan *chanPtr)
{
    return chanPtr->proxyPtr != NULL && chanPtr->proxyPtr->listenPtr != NULL;
}

/*
 * IocpProxyRefuse --
 *	There is no header, or it takes too long.
 */
void
IocpProxyRefuse(IocpChan *chanPtr)
{
    IOCP_COUNT(chanPtr->threadPtr, proxyErrors, 1);
    Settle(chanPtr);
    IocpChanDrop(chanPtr);
}

/*
 * IocpProxyBegin --
 *	A listener has accepted a connection: await its header.
 * Results:
 *	0 if out of memory: fd still is the caller's.
 */
int
IocpProxyBegin(IocpChan *listenPtr, IocpSocket fd)
{
    IocpThread *threadPtr = listenPtr->threadPtr;
    IocpListener *listenerPtr = listenPtr->listenerPtr;
    IocpProxy *proxyPtr = IocpAlloc(threadPtr, sizeof(IocpProxy));
    IocpChan *chanPtr = proxyPtr == NULL ? NULL : IocpChanNew(threadPtr, fd, IOCP_OPEN);

    if (chanPtr == NULL) {
	IocpFree(threadPtr, proxyPtr, sizeof(IocpProxy));
	return 0;
    }
    if (listenerPtr->proxyCount >= IOCP_PROXY_AWAITED_MAX) {
	IocpProxyRefuse(listenerPtr->proxyFirstPtr);
    }
    chanPtr->proxyPtr = proxyPtr;
    proxyPtr->listenPtr = listenPtr;
    proxyPtr->prevPtr = listenerPtr->proxyLastPtr;
    *(proxyPtr->prevPtr != NULL ? &proxyPtr->prevPtr->proxyPtr->nextPtr
	    : &listenerPtr->proxyFirstPtr) = chanPtr;
    listenerPtr->proxyLastPtr = chanPtr;
    listenerPtr->proxyCount++;
    chanPtr->flags |= IOCP_CHANF_RECV_WANTED;
    if (!IocpTimeoutWatch(chanPtr)) {
	IocpProxyRefuse(chanPtr);
	return 1;
    }
    IocpEventDirty(chanPtr);
    return 1;
}

/*
 * IocpProxyReceived --
 *	Something has come of a connection whose header is awaited, or its end.
 */
void
IocpProxyReceived(IocpChan *chanPtr)
{
    IocpProxy *proxyPtr = chanPtr->proxyPtr;
    IocpChan *listenPtr = proxyPtr->listenPtr;
    IocpBuf *headPtr = proxyPtr->headPtr;
    int length;

    if (headPtr == NULL) {
	headPtr = proxyPtr->headPtr = IocpBufNew(chanPtr->threadPtr, IOCP_PROXY_MAX);
	if (headPtr == NULL) {
	    IocpProxyRefuse(chanPtr);
	    return;
	}
    }
    headPtr->end += IocpRecvTake(chanPtr, headPtr->data + headPtr->end,
	    headPtr->size - headPtr->end);
    length = IocpProxyParse(headPtr->data, headPtr->end, &proxyPtr->addrs);
    if (length < 0 || (length == 0 && (chanPtr->recvError != 0
	    || (chanPtr->flags & IOCP_CHANF_EOF)))) {
	IocpProxyRefuse(chanPtr);
	return;
    }
    if (length == 0) {
	chanPtr->flags |= IOCP_CHANF_RECV_WANTED;
	IocpEventDirty(chanPtr);
	return;
    }
    proxyPtr->headPtr = NULL;
    headPtr->start = (size_t)length;
    IocpRecvPutBack(chanPtr, headPtr);
    IocpTimeoutForget(chanPtr);
    Settle(chanPtr);
    if (!IocpListenQueue(listenPtr, IOCP_NO_SOCKET, chanPtr)) {
	IocpChanDrop(chanPtr);
    }
}

/*
 * IocpProxyClose --
 *	The listener is being closed, or leaves its thread.
 */
void
IocpProxyClose(IocpChan *listenPtr)
{
    IocpChan *chanPtr;

    while ((chanPtr = listenPtr->listenerPtr->proxyFirstPtr) != NULL) {
	Settle(chanPtr);
	IocpChanDrop(chanPtr);
    }
}
