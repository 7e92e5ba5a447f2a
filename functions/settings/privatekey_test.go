package settings

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
)

// Keys of no certificate, encrypted with "example" by openssl pkcs8 -topk8.
func TestEncryptedKeysAreRead(t *testing.T) {
	for name, text := range map[string]string{
		"AES-256, SHA-256": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhVVS/57gabAQICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEN4RzKwkOrZOQfuQlhxamzQEgZAa
evX7F+bQtZpUqM/vPYmJHt4Y1K1fMTAeEIJDaMefYuIxCFxVJ6O54ERWBLgaYwVZ
3RuhPZpty+q5J0KfOgjpSS5BZjJQOCrcMU3AvOkaHK+krIZD+kzGCRzh7Frg79Jk
WhUhCri96hjs2Ab8p/ueD4wW3aGUIXLs06ph0vZ5vgUVm/VY491ht3bRB1jHf2M=
-----END ENCRYPTED PRIVATE KEY-----
`,
		"AES-128, SHA-1": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHeMEkGCSqGSIb3DQEFDTA8MBsGCSqGSIb3DQEFDDAOBAhwbF4evkZt1wICCAAw
HQYJYIZIAWUDBAECBBAnObTdAn7k71NoqD8iZeUpBIGQH/mBtocSo18kEmWoiIsB
ggxZ8JUm8r9/Q/HYwDsrVhY3myZiTnNTheZHQv3KvqVv320Jr+l+/bn0C0i9iwlm
q64IBMcj4YhIoVvvA7uUROZVXlod+/YJG/5SxBF2HnpNrqjRiTedEMoC1ZX82Tw4
bzVoD2lpHYP3o2lUTm8vrecoE9auCVd3xE+umIn8aXLm
-----END ENCRYPTED PRIVATE KEY-----
`,
	} {
		plain, err := decrypt([]byte(text), "example")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		block, _ := pem.Decode(plain)
		if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := decrypt([]byte(strings.Replace(text, "MI", "AA", 1)), "example"); err == nil {
			t.Errorf("%s: damaged, and read", name)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	f.Add([]byte{0x30, 0}, "example")
	f.Fuzz(func(_ *testing.T, der []byte, password string) {
		_, _ = decrypt(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), password)
	})
}
