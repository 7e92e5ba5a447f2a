package boltstore

import "syscall"

// bootID names the time since the machine was last started; empty if it cannot be known.
func bootID() string {
	id, err := syscall.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}
