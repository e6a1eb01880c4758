package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// authority signs the certificates of one cluster.
type authority struct {
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

// issue writes the keys of a new cluster into a folder: a CA, the API server's and the kubelets'
// serving certificates, the client certificates of the API server towards kubelets and towards
// aggregated APIs, and the key that signs service account tokens.
// Arguments: the folder, the network the nodes' addresses are out of, and how many nodes there may be.
func issue(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: controlplane pki DIR NODE_NETWORK NODES")
	}
	network, err := netip.ParsePrefix(args[1])
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	ca := &authority{dir: args[0]}
	if err := ca.found(); err != nil {
		return err
	}
	loopback := net.IPv4(127, 0, 0, 1)
	// Kubelets share one key: it names each address that a node can have.
	var nodes []net.IP
	for address := network.Addr().Next(); len(nodes) < count; address = address.Next() {
		nodes = append(nodes, address.AsSlice())
	}
	leaves := []struct {
		file, user, group string
		names             []string
		addresses         []net.IP
	}{
		{file: "apiserver", user: "kube-apiserver", addresses: []net.IP{loopback, net.IPv4(10, 96, 0, 1)},
			names: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}},
		{file: "kubelet", user: "system:node", group: "system:nodes", addresses: nodes},
		{file: "kubelet-client", user: "kube-apiserver-kubelet-client", group: "system:masters"},
		{file: "front-proxy", user: "front-proxy-client"},
	}
	for _, leaf := range leaves {
		subject := pkix.Name{CommonName: leaf.user}
		if leaf.group != "" {
			subject.Organization = []string{leaf.group}
		}
		template := &x509.Certificate{
			Subject: subject, DNSNames: leaf.names, IPAddresses: leaf.addresses,
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if err := ca.sign(leaf.file, template); err != nil {
			return err
		}
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	return ca.writeKey("service-account", key)
}

// found makes the CA itself.
func (a *authority) found() (err error) {
	if a.key, err = newKey(); err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "upid-test-ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	a.certificate = template // signs itself
	der, err := a.create(template, a.key)
	if err != nil {
		return err
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	return a.write("ca.crt", "CERTIFICATE", der)
}

// sign writes FILE.crt and FILE.key.
func (a *authority) sign(file string, template *x509.Certificate) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	der, err := a.create(template, key)
	if err != nil {
		return err
	}
	if err := a.write(file+".crt", "CERTIFICATE", der); err != nil {
		return err
	}
	return a.writeKey(file, key)
}

func (a *authority) create(template *x509.Certificate, key *ecdsa.PrivateKey) ([]byte, error) {
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().AddDate(1, 0, 0)
	return x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
}

func (a *authority) writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return a.write(file+".key", "EC PRIVATE KEY", der)
}

func (a *authority) write(file, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }
