package dataplane

import (
	"encoding/binary"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Offsets in struct bpf_sock_addr.
const (
	sockAddrIP4      = 4
	sockAddrIP6      = 8
	sockAddrProtocol = 36
)

// The keys and values that the programs and this room share. Addresses are in network order; those of IPv4 are mapped into IPv6, as they
// are by sockets that speak both. The programs alone keep the peers: by socket cookie, the virtual address and after it the backend's.
type (
	serviceKey struct {
		Sandbox uint64 // the network namespace's cookie
		VIP     [16]byte
	}
	serviceValue struct {
		Count, Generation, Next uint32
		_                       uint32
	}
	backendKey struct {
		Sandbox          uint64
		VIP              [16]byte
		Generation, Slot uint32
	}
)

// Where the programs keep these on their stacks.
const (
	onService = -24
	onBackend = -56
	onCookie  = -64
	onPeer    = -96
)

// sockAddr is one of the two kinds of sockets, as the programs see it.
type sockAddr struct {
	suffix               string
	connect, getpeername ebpf.AttachType
	// words are where the address's four words are in the context; 0 for those that an IPv4 address lacks.
	words [4]int16
}

func sockAddrs() []sockAddr {
	four := sockAddr{"4", ebpf.AttachCGroupInet4Connect, ebpf.AttachCgroupInet4GetPeername, [4]int16{3: sockAddrIP4}}
	six := sockAddr{"6", ebpf.AttachCGroupInet6Connect, ebpf.AttachCgroupInet6GetPeername, [4]int16{sockAddrIP6, sockAddrIP6 + 4, sockAddrIP6 + 8, sockAddrIP6 + 12}}
	if !IPv6() {
		return []sockAddr{four}
	}
	return []sockAddr{four, six}
}

// destination copies the address that is connected to into the keys and the peer.
func (a sockAddr) destination() asm.Instructions {
	var out asm.Instructions
	mapped := [4]int32{2: int32(binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}))}
	for i, at := range a.words {
		if at == 0 {
			out = append(out, asm.Mov.Imm(asm.R7, mapped[i]))
		} else {
			out = append(out, asm.LoadMem(asm.R7, asm.R6, at, asm.Word))
		}
		word := int16(4 * i)
		out = append(out, asm.StoreMem(asm.RFP, onService+8+word, asm.R7, asm.Word), asm.StoreMem(asm.RFP, onBackend+8+word, asm.R7, asm.Word),
			asm.StoreMem(asm.RFP, onPeer+word, asm.R7, asm.Word))
	}
	return out
}

// redirect makes the address that of the backend at R0, and notes it in the peer.
func (a sockAddr) redirect() asm.Instructions {
	var out asm.Instructions
	for i, at := range a.words {
		word := int16(4 * i)
		out = append(out, asm.LoadMem(asm.R8, asm.R0, word, asm.Word), asm.StoreMem(asm.RFP, onPeer+16+word, asm.R8, asm.Word))
		if at != 0 {
			out = append(out, asm.StoreMem(asm.R6, at, asm.R8, asm.Word))
		}
	}
	return out
}

// disguise makes the address the virtual one of the peer at R0, if it is that of its backend.
func (a sockAddr) disguise() asm.Instructions {
	var compare, replace asm.Instructions
	for i, at := range a.words {
		if at == 0 {
			continue
		}
		word := int16(4 * i)
		compare = append(compare, asm.LoadMem(asm.R1, asm.R6, at, asm.Word), asm.LoadMem(asm.R2, asm.R0, 16+word, asm.Word), asm.JNE.Reg(asm.R1, asm.R2, "pass"))
		replace = append(replace, asm.LoadMem(asm.R2, asm.R0, word, asm.Word), asm.StoreMem(asm.R6, at, asm.R2, asm.Word))
	}
	return append(compare, replace...)
}

// takeNumber adds by to the word at base+offset, atomically, and puts into by what was there before. (The library leaves out the bit that
// asks for that, so it is set here; the test of an even spread would tell if this changed.)
func takeNumber(base, by asm.Register, offset int16) asm.Instruction {
	i := asm.FetchAdd.Mem(base, by, asm.Word, offset)
	i.Constant = int64(asm.FetchAdd >> 8)
	return i
}

// connectProgram gives a TCP socket that connects to a virtual address the backend whose turn it is, and remembers that it did. Any
// other socket passes as it is.
func (a sockAddr) connectProgram(services, backends, peers *ebpf.Map) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: "shoal_connect" + a.suffix, Type: ebpf.CGroupSockAddr, AttachType: a.connect, License: "GPL",
		Instructions: slices.Concat(asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R2, asm.R6, sockAddrProtocol, asm.Word),
			asm.JNE.Imm(asm.R2, unix.IPPROTO_TCP, "pass"),
			asm.FnGetNetnsCookie.Call(),
			asm.StoreMem(asm.RFP, onService, asm.R0, asm.DWord),
			asm.StoreMem(asm.RFP, onBackend, asm.R0, asm.DWord),
		}, a.destination(), asm.Instructions{
			asm.LoadMapPtr(asm.R1, services.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onService),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
			// The slot is the turn modulo the number of backends.
			asm.Mov.Imm(asm.R1, 1),
			takeNumber(asm.R0, asm.R1, 8),
			asm.LoadMem(asm.R2, asm.R0, 0, asm.Word),
			asm.JEq.Imm(asm.R2, 0, "pass"),
			asm.Mod.Reg32(asm.R1, asm.R2),
			asm.LoadMem(asm.R3, asm.R0, 4, asm.Word),
			asm.StoreMem(asm.RFP, onBackend+24, asm.R3, asm.Word),
			asm.StoreMem(asm.RFP, onBackend+28, asm.R1, asm.Word),
			asm.LoadMapPtr(asm.R1, backends.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onBackend),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"), // replaced in this moment: the rules choose
		}, a.redirect(), asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.FnGetSocketCookie.Call(),
			asm.StoreMem(asm.RFP, onCookie, asm.R0, asm.DWord),
			asm.LoadMapPtr(asm.R1, peers.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onCookie),
			asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, onPeer),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnMapUpdateElem.Call(),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
			asm.Return(),
		}),
	}
}

// peerProgram makes getpeername(2) name the virtual address that the application connected to.
func (a sockAddr) peerProgram(peers *ebpf.Map) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: "shoal_peer" + a.suffix, Type: ebpf.CGroupSockAddr, AttachType: a.getpeername, License: "GPL",
		Instructions: slices.Concat(asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.FnGetSocketCookie.Call(),
			asm.StoreMem(asm.RFP, onCookie, asm.R0, asm.DWord),
			asm.LoadMapPtr(asm.R1, peers.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onCookie),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
		}, a.disguise(), asm.Instructions{
			asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
			asm.Return(),
		}),
	}
}
