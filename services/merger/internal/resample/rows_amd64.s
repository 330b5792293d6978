#include "textflag.h"

// The sums of addRows for eight columns at a time, in the registers of AVX2. Each
// step is the one that addRows takes: products are rounded before they are added,
// and added in the same order, so that the bits are the same.
//
// DI sums, SI the eight columns of the first row, R8 bytes to the next row, R9
// weights, R10 rows, R11 columns left, R12 whether sums are to be set; of one
// step: DX its row, BX its weights, CX rows left, R13 R12. Y0 and Y1 are the sums.

#define ARGUMENTS \
	MOVQ sums+0(FP), DI; \
	MOVQ n+8(FP), R11; \
	MOVQ values+16(FP), SI; \
	MOVQ stride+24(FP), R8; \
	MOVQ weights+32(FP), R9; \
	MOVQ rows+40(FP), R10; \
	MOVBLZX first+48(FP), R12

// Eight values as float64, from DX on, in A and B (XA and XB their lower halves).
#define FLOAT32(A, XA, B, XB) \
	VCVTPS2PD (DX), A; \
	VCVTPS2PD 16(DX), B
#define FLOAT64(A, XA, B, XB) \
	VMOVUPD (DX), A; \
	VMOVUPD 32(DX), B
#define INT32(A, XA, B, XB) \
	VCVTDQ2PD (DX), A; \
	VCVTDQ2PD 16(DX), B
#define INT16(A, XA, B, XB) \
	VPMOVSXWD (DX), XA; \
	VPMOVSXWD 8(DX), XB; \
	VCVTDQ2PD XA, A; \
	VCVTDQ2PD XB, B
#define UINT16(A, XA, B, XB) \
	VPMOVZXWD (DX), XA; \
	VPMOVZXWD 8(DX), XB; \
	VCVTDQ2PD XA, A; \
	VCVTDQ2PD XB, B
#define INT8(A, XA, B, XB) \
	VPMOVSXBD (DX), XA; \
	VPMOVSXBD 4(DX), XB; \
	VCVTDQ2PD XA, A; \
	VCVTDQ2PD XB, B
#define UINT8(A, XA, B, XB) \
	VPMOVZXBD (DX), XA; \
	VPMOVZXBD 4(DX), XB; \
	VCVTDQ2PD XA, A; \
	VCVTDQ2PD XB, B

// A row by its weight, AT bytes on.
#define ROW(LOAD, AT, A, XA, B, XB) \
	LOAD(A, XA, B, XB); \
	PREFETCHT0 256(DX); \
	ADDQ R8, DX; \
	VBROADCASTSD AT(BX), Y10; \
	VMULPD Y10, A, A; \
	VMULPD Y10, B, B

#define SUM(LOAD, BYTES) \
columns: \
	MOVQ SI, DX; \
	MOVQ R9, BX; \
	MOVQ R10, CX; \
	MOVQ R12, R13; \
	VMOVUPD (DI), Y0; \
	VMOVUPD 32(DI), Y1; \
rows: \
	ROW(LOAD, 0, Y2, X2, Y3, X3); \
	CMPQ CX, $1; \
	JE   add; \
	ROW(LOAD, 8, Y4, X4, Y5, X5); \
	VADDPD Y4, Y2, Y2; \
	VADDPD Y5, Y3, Y3; \
	CMPQ CX, $2; \
	JE   add; \
	ROW(LOAD, 16, Y4, X4, Y5, X5); \
	CMPQ CX, $3; \
	JE   three; \
	ROW(LOAD, 24, Y6, X6, Y7, X7); \
	VADDPD Y6, Y4, Y4; \
	VADDPD Y7, Y5, Y5; \
three: \
	VADDPD Y4, Y2, Y2; \
	VADDPD Y5, Y3, Y3; \
add: \
	TESTQ R13, R13; \
	JNZ  set; \
	VADDPD Y2, Y0, Y0; \
	VADDPD Y3, Y1, Y1; \
	JMP  next; \
set: \
	VMOVAPD Y2, Y0; \
	VMOVAPD Y3, Y1; \
	XORQ R13, R13; \
next: \
	ADDQ $32, BX; \
	SUBQ $4, CX; \
	JGT  rows; \
	VMOVUPD Y0, (DI); \
	VMOVUPD Y1, 32(DI); \
	ADDQ $64, DI; \
	ADDQ $BYTES, SI; \
	SUBQ $8, R11; \
	JGT  columns; \
	VZEROUPPER; \
	RET

// func addFloat32(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)
TEXT ·addFloat32(SB), NOSPLIT, $0-49
	ARGUMENTS
	SUM(FLOAT32, 32)

// func addFloat64(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)
TEXT ·addFloat64(SB), NOSPLIT, $0-49
	ARGUMENTS
	SUM(FLOAT64, 64)

// func addInt32(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)
TEXT ·addInt32(SB), NOSPLIT, $0-49
	ARGUMENTS
	SUM(INT32, 32)

// func addInt16(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)
TEXT ·addInt16(SB), NOSPLIT, $0-49
	ARGUMENTS
	SUM(INT16, 16)

// func addUint16(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)
TEXT ·addUint16(SB), NOSPLIT, $0-49
	ARGUMENTS
	SUM(UINT16, 16)

// func addInt8(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)
TEXT ·addInt8(SB), NOSPLIT, $0-49
	ARGUMENTS
	SUM(INT8, 8)

// func addUint8(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)
TEXT ·addUint8(SB), NOSPLIT, $0-49
	ARGUMENTS
	SUM(UINT8, 8)
