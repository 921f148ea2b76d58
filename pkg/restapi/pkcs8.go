package restapi

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // PBKDF2's default hash in existing key files
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"hash"
)

// The standard library reads no encrypted PKCS #8 keys, which is what OpenSSL 3
// writes. This reads the form it writes: PBES2 with PBKDF2 and AES-CBC (RFC
// 8018).

var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA1   = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES128CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}

	errKeyFormat = errors.New("the key is encrypted in a form that is not supported; write it anew with: openssl pkcs8 -topk8 -v2 aes-256-cbc")
)

type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2Params struct {
	KDF, Cipher pkix.AlgorithmIdentifier
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

const maxIterations = 10_000_000

// decryptPKCS8 returns the plain PKCS #8 key.
func decryptPKCS8(der, password []byte) ([]byte, error) {
	var key encryptedKey
	var scheme pbes2Params
	var kdf pbkdf2Params
	var iv []byte
	if rest, err := asn1.Unmarshal(der, &key); err != nil || len(rest) > 0 || !key.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, errKeyFormat
	}
	if _, err := asn1.Unmarshal(key.Algorithm.Parameters.FullBytes, &scheme); err != nil || !scheme.KDF.Algorithm.Equal(oidPBKDF2) {
		return nil, errKeyFormat
	}
	if _, err := asn1.Unmarshal(scheme.KDF.Parameters.FullBytes, &kdf); err != nil || kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, errKeyFormat
	}
	if _, err := asn1.Unmarshal(scheme.Cipher.Parameters.FullBytes, &iv); err != nil || len(iv) != aes.BlockSize {
		return nil, errKeyFormat
	}
	var size int
	switch {
	case scheme.Cipher.Algorithm.Equal(oidAES256CBC):
		size = 32
	case scheme.Cipher.Algorithm.Equal(oidAES128CBC):
		size = 16
	default:
		return nil, errKeyFormat
	}
	var prf func() hash.Hash
	switch {
	case kdf.PRF.Algorithm == nil, kdf.PRF.Algorithm.Equal(oidHMACSHA1):
		prf = sha1.New
	case kdf.PRF.Algorithm.Equal(oidHMACSHA256):
		prf = sha256.New
	default:
		return nil, errKeyFormat
	}
	secret, err := pbkdf2.Key(prf, string(password), kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, errKeyFormat
	}
	return decryptCBC(key.Data, secret, iv)
}

// decryptCBC decrypts and takes off the padding.
func decryptCBC(data, secret, iv []byte) ([]byte, error) {
	block, err := aes.NewCipher(secret)
	if err != nil || len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, errKeyFormat
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errKeyPassword
	}
	return plain[:len(plain)-pad], nil
}
