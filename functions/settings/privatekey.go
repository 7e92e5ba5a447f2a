package settings

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // PBKDF2 with HMAC-SHA-1 is what keys are written with where nothing else was asked for
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"hash"
)

// maxIterations bounds the work that a key asks for: it is done with each new connection.
const maxIterations = 1_000_000

// Object identifiers of PKCS #5 and of what it is used with.
const (
	oidPBES2  = "1.2.840.113549.1.5.13"
	oidPBKDF2 = "1.2.840.113549.1.5.12"
	oidSHA256 = "1.2.840.113549.2.9"
	oidSHA1   = "1.2.840.113549.2.7"
)

// keySize is that of a variant of AES-CBC, in bytes; 0 for any other cipher.
func keySize(oid string) int {
	switch oid {
	case "2.16.840.1.101.3.4.1.2":
		return 16
	case "2.16.840.1.101.3.4.1.22":
		return 24
	case "2.16.840.1.101.3.4.1.42":
		return 32
	}
	return 0
}

var errKey = errors.New("privateKey is encrypted otherwise than PKCS #8 by PBES2 with AES-CBC, or privateKeyPassword is wrong")

// decrypt returns a private key in PEM as it is, or without its encryption.
func decrypt(text []byte, password string) ([]byte, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "ENCRYPTED PRIVATE KEY" {
		return text, nil
	}
	var outer struct {
		Algorithm pkix.AlgorithmIdentifier
		Encrypted []byte
	}
	var scheme struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	var kdf struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	var iv []byte
	for _, part := range []struct {
		der func() []byte
		to  any
	}{
		{func() []byte { return block.Bytes }, &outer},
		{func() []byte { return outer.Algorithm.Parameters.FullBytes }, &scheme},
		{func() []byte { return scheme.KDF.Parameters.FullBytes }, &kdf},
		{func() []byte { return scheme.Cipher.Parameters.FullBytes }, &iv},
	} {
		if _, err := asn1.Unmarshal(part.der(), part.to); err != nil {
			return nil, errKey
		}
	}
	size := keySize(scheme.Cipher.Algorithm.String())
	if outer.Algorithm.Algorithm.String() != oidPBES2 || scheme.KDF.Algorithm.String() != oidPBKDF2 || size == 0 || len(iv) != aes.BlockSize ||
		kdf.Iterations < 1 || kdf.Iterations > maxIterations || len(outer.Encrypted) == 0 || len(outer.Encrypted)%aes.BlockSize != 0 {
		return nil, errKey
	}
	prf := sha1.New
	switch kdf.PRF.Algorithm.String() {
	case oidSHA256:
		prf = sha256.New
	case oidSHA1, "":
	default:
		return nil, errKey
	}
	return open(outer.Encrypted, password, kdf.Salt, iv, kdf.Iterations, size, prf)
}

func open(encrypted []byte, password string, salt, iv []byte, iterations, size int, prf func() hash.Hash) ([]byte, error) {
	key, err := pbkdf2.Key(prf, password, salt, iterations, size)
	if err != nil {
		return nil, errKey
	}
	cbc, err := aes.NewCipher(key)
	if err != nil {
		return nil, errKey
	}
	plain := make([]byte, len(encrypted))
	cipher.NewCBCDecrypter(cbc, iv).CryptBlocks(plain, encrypted)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > aes.BlockSize {
		return nil, errKey
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain[:len(plain)-padding]}), nil
}
