// A vCenter of Debian's vcsim with five hosts in one cluster, and one call that vcsim lacks: a host loses a mount.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/url"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// lose removes a datastore from a host's own list, as `esxcli storage nfs remove` on the host does.
func lose(hostName, dsName string) error {
	for _, e := range simulator.Map.All("HostSystem") {
		host := e.(*simulator.HostSystem)
		if host.Name != hostName {
			continue
		}
		dss := simulator.Map.Get(*host.ConfigManager.DatastoreSystem).(*simulator.HostDatastoreSystem)
		var kept []types.ManagedObjectReference
		for _, ref := range dss.Datastore {
			if simulator.Map.Get(ref).(*simulator.Datastore).Name != dsName {
				kept = append(kept, ref)
			}
		}
		if len(kept) == len(dss.Datastore) {
			return fmt.Errorf("%s has no %s", hostName, dsName)
		}
		dss.Datastore = kept
		dss.Host.Datastore = kept
		return nil
	}
	return fmt.Errorf("no host %s", hostName)
}

func main() {
	listen := flag.String("l", "127.0.0.1:8989", "address")
	control := flag.String("control", "127.0.0.1:8988", "address of the call that vcsim lacks")
	esx := flag.Bool("esx", false, "a single host")
	flag.Parse()
	model := simulator.VPX()
	if *esx {
		model = simulator.ESX()
	} else {
		model.Host, model.ClusterHost, model.Machine = 0, 5, 0
	}
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	model.Service.Listen = &url.URL{Host: *listen}
	server := model.Service.NewServer()
	http.HandleFunc("/lose", func(w http.ResponseWriter, r *http.Request) {
		if err := lose(r.FormValue("host"), r.FormValue("datastore")); err != nil {
			http.Error(w, err.Error(), 404)
		}
	})
	fmt.Println(server.URL)
	log.Fatal(http.ListenAndServe(*control, nil))
}
