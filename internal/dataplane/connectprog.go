package dataplane

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Offsets in struct bpf_sock_addr.
const (
	sockAddrIP4      = 4
	sockAddrProtocol = 36
)

// The keys and values that the programs and this room share. Addresses are in network order. The programs alone keep the peers: by
// socket cookie, the virtual address and after it the backend's.
type (
	serviceKey struct {
		Sandbox uint64 // the network namespace's cookie
		VIP     [4]byte
		_       uint32
	}
	serviceValue struct {
		Count, Generation, Next uint32
		_                       uint32
	}
	backendKey struct {
		Sandbox          uint64
		VIP              [4]byte
		Generation, Slot uint32
		_                uint32
	}
)

// Where the programs keep these on their stacks.
const (
	onService = -16
	onBackend = -40
	onCookie  = -48
	onPeer    = -56
)

// takeNumber adds by to the word at base+offset, atomically, and puts into by what was there before. (The library leaves out the bit that
// asks for that, so it is set here; the test of an even spread would tell if this changed.)
func takeNumber(base, by asm.Register, offset int16) asm.Instruction {
	i := asm.FetchAdd.Mem(base, by, asm.Word, offset)
	i.Constant = int64(asm.FetchAdd >> 8)
	return i
}

// connectProgram gives a TCP socket that connects to a virtual address the backend whose turn it is, and remembers that it did. Any
// other socket passes as it is.
func connectProgram(services, backends, peers *ebpf.Map) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: "shoal_connect4", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R2, asm.R6, sockAddrProtocol, asm.Word),
			asm.JNE.Imm(asm.R2, unix.IPPROTO_TCP, "pass"),
			asm.FnGetNetnsCookie.Call(),
			asm.StoreMem(asm.RFP, onService, asm.R0, asm.DWord),
			asm.StoreMem(asm.RFP, onBackend, asm.R0, asm.DWord),
			asm.LoadMem(asm.R7, asm.R6, sockAddrIP4, asm.Word),
			asm.StoreMem(asm.RFP, onService+8, asm.R7, asm.Word),
			asm.StoreMem(asm.RFP, onBackend+8, asm.R7, asm.Word),
			asm.StoreImm(asm.RFP, onService+12, 0, asm.Word),
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
			asm.StoreMem(asm.RFP, onBackend+12, asm.R3, asm.Word),
			asm.StoreMem(asm.RFP, onBackend+16, asm.R1, asm.Word),
			asm.StoreImm(asm.RFP, onBackend+20, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, backends.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onBackend),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"), // replaced in this moment: the rules choose
			asm.LoadMem(asm.R8, asm.R0, 0, asm.Word),
			asm.StoreMem(asm.R6, sockAddrIP4, asm.R8, asm.Word),
			asm.StoreMem(asm.RFP, onPeer, asm.R7, asm.Word),
			asm.StoreMem(asm.RFP, onPeer+4, asm.R8, asm.Word),
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
		},
	}
}

// peerProgram makes getpeername(2) name the virtual address that the application connected to.
func peerProgram(peers *ebpf.Map) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: "shoal_peer4", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCgroupInet4GetPeername, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.FnGetSocketCookie.Call(),
			asm.StoreMem(asm.RFP, onCookie, asm.R0, asm.DWord),
			asm.LoadMapPtr(asm.R1, peers.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onCookie),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.LoadMem(asm.R1, asm.R6, sockAddrIP4, asm.Word),
			asm.LoadMem(asm.R2, asm.R0, 4, asm.Word),
			asm.JNE.Reg(asm.R1, asm.R2, "pass"),
			asm.LoadMem(asm.R2, asm.R0, 0, asm.Word),
			asm.StoreMem(asm.R6, sockAddrIP4, asm.R2, asm.Word),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
			asm.Return(),
		},
	}
}
