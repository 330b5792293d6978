package grid_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rasterloom/rasterloom/grid"
)

// crsText reads one of the texts that PROJ, GDAL and ESRI's dialect give for a
// system.
func crsText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "crs", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTextsOfOneSystemAreTheSame(t *testing.T) {
	for id, texts := range map[string][]string{
		"EPSG:4326": {
			"EPSG:4326", "epsg:4326", " EPSG:4326\n", "EPSG:04326", "OGC:CRS84", "CRS84", "CRS:84", "WGS84",
			"urn:ogc:def:crs:EPSG::4326", "urn:ogc:def:crs:EPSG:9.9.1:4326", "urn:ogc:def:crs:OGC:1.3:CRS84", "URN:OGC:DEF:CRS:EPSG::4326",
			"http://www.opengis.net/def/crs/EPSG/0/4326", "https://www.opengis.net/def/crs/OGC/1.3/CRS84",
			"+init=epsg:4326", "+proj=longlat +datum=WGS84 +no_defs", "+proj=longlat +ellps=WGS84 +datum=WGS84 +no_defs +type=crs",
			crsText(t, "epsg4326.wkt1_gdal"), crsText(t, "epsg4326.wkt1_esri"), crsText(t, "epsg4326.wkt2_2015"),
			crsText(t, "epsg4326.wkt2_2019"), crsText(t, "epsg4326.projjson"),
			crsText(t, "crs84.wkt2_2019"), crsText(t, "crs84.projjson"),
		},
		"EPSG:4269": {
			"EPSG:4269", "NAD83", "OGC:CRS83", crsText(t, "epsg4269.wkt1_gdal"), crsText(t, "epsg4269.wkt2_2015"),
			crsText(t, "epsg4269.wkt2_2019"), crsText(t, "epsg4269.projjson"),
		},
		"EPSG:31985": {
			"EPSG:31985", crsText(t, "epsg31985.wkt1_gdal"), crsText(t, "epsg31985.wkt2_2015"), crsText(t, "epsg31985.wkt2_2019"),
			crsText(t, "epsg31985.projjson"), crsText(t, "olinda_landsat.wkt1_gdal"), crsText(t, "olinda_landsat.wkt2_2019"),
			crsText(t, "olinda_landsat.projjson"),
		},
		"EPSG:3857": {
			"EPSG:3857", "EPSG:900913", "ESRI:102100", crsText(t, "epsg3857.wkt1_gdal"), crsText(t, "epsg3857.wkt2_2015"),
			crsText(t, "epsg3857.wkt2_2019"), crsText(t, "epsg3857.projjson"),
		},
		"EPSG:32725": {"EPSG:32725", "+proj=utm +zone=25 +south +datum=WGS84 +units=m +no_defs"},
		"EPSG:32632": {"EPSG:32632", "+proj=utm +zone=32 +datum=WGS84 +units=m +no_defs +type=crs"},
	} {
		for _, a := range texts {
			if got := grid.ParseCRS(a).ID(); got != id {
				t.Errorf("%.60q is %q, want %s", a, got, id)
			}
			for _, b := range texts {
				if same, known := grid.SameCRS(a, b); !same || !known {
					t.Errorf("%.60q and %.60q: same %v, known %v", a, b, same, known)
				}
			}
		}
	}
}

func TestDifferentOrUntoldSystems(t *testing.T) {
	wgs84 := crsText(t, "epsg4326.wkt2_2019")
	for name, c := range map[string]struct {
		a, b  string
		known bool
	}{
		"two codes":                          {"EPSG:4326", "EPSG:4269", true},
		"a datum apart":                      {wgs84, "EPSG:4269", true},
		"two authorities":                    {"EPSG:4326", "ESRI:104199", false},
		"only the outermost id counts":       {crsText(t, "epsg31985.wkt2_2019"), "EPSG:4674", true},
		"an id inside is not the system's":   {crsText(t, "epsg31985.wkt1_esri"), "EPSG:31985", false},
		"ids of parts only":                  {crsText(t, "compound.wkt2_2019"), "EPSG:4326", false},
		"bound to another system":            {crsText(t, "bound.wkt2_2019"), "EPSG:4326", false},
		"bound, as PROJJSON":                 {crsText(t, "bound.projjson"), crsText(t, "bound.wkt2_2019"), false},
		"none and one":                       {"", "EPSG:4326", false},
		"a bare number":                      {"4326", "EPSG:4326", false},
		"a name":                             {"Some local system", "EPSG:4326", false},
		"a PROJ string we do not take apart": {"+proj=longlat +ellps=GRS80 +no_defs", "EPSG:4269", false},
		"UTM without a zone":                 {"+proj=utm +datum=WGS84", "EPSG:32632", false},
		"ESRI's text with another ellipsoid": {strings.Replace(crsText(t, "epsg4326.wkt1_esri"), "6378137.0", "6378135.0", 1), "EPSG:4326", false},
		"ESRI's text with another meridian":  {strings.Replace(crsText(t, "epsg4326.wkt1_esri"), `"Greenwich",0.0`, `"Paris",2.33722917`, 1), "EPSG:4326", false},
		"ESRI's text with a transformation":  {strings.Replace(crsText(t, "epsg4326.wkt1_esri"), "298.257223563]", "298.257223563],TOWGS84[1,2,3,0,0,0,0]", 1), "EPSG:4326", false},
		"bound, with an id of its own":       {`{"type":"BoundCRS","id":{"authority":"EPSG","code":4326}}`, "EPSG:4326", false},
		"cut off":                            {wgs84[:len(wgs84)/2], wgs84, false},
		"text after the end":                 {wgs84 + "]", wgs84, false},
		"cut off PROJJSON":                   {crsText(t, "epsg4326.projjson")[:200], "EPSG:4326", false},
		"too long":                           {wgs84 + strings.Repeat(" ", 10) + strings.Repeat("x", 70000), wgs84, false},
		"too deep":                           {strings.Repeat("GEOGCS[", 10000) + `"x"` + strings.Repeat("]", 10000), wgs84, false},
	} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if same, known := grid.SameCRS(pair[0], pair[1]); same || known != c.known {
				t.Errorf("%s: same %v, known %v; want false, %v", name, same, known, c.known)
			}
		}
	}
}

// The Olinda scene and its elevation model are in one system, and the texts do
// not say so: any answer but "same" will do.
func TestOlindaPairIsNeverTakenForTheSame(t *testing.T) {
	landsat := []string{"EPSG:31985", crsText(t, "olinda_landsat.wkt1_gdal"), crsText(t, "olinda_landsat.wkt2_2019"),
		crsText(t, "olinda_landsat.projjson"), crsText(t, "olinda_landsat.wkt1_esri")}
	// rasterio gives the model's GeoTIFF key 32000, which is no code of EPSG.
	dem := []string{"EPSG:32000", crsText(t, "olinda_dem.wkt1_gdal"), crsText(t, "olinda_dem.wkt2_2019"), crsText(t, "olinda_dem.projjson")}
	for _, a := range landsat {
		for _, b := range dem {
			if same, _ := grid.SameCRS(a, b); same {
				t.Errorf("%.60q and %.60q are taken for the same", a, b)
			}
		}
	}
}

func TestEqualTextsAreOneSystem(t *testing.T) {
	for _, text := range []string{"", "Some local system", crsText(t, "olinda_dem.wkt1_gdal"), crsText(t, "bound.projjson")} {
		if same, known := grid.SameCRS(text, " "+text+"\n"); !same || !known {
			t.Errorf("%.60q is not itself: same %v, known %v", text, same, known)
		}
	}
}

func TestGeographicSystems(t *testing.T) {
	for text, want := range map[string]bool{
		"EPSG:4326": true, "EPSG:4674": true, "EPSG:4258": true, "EPSG:7844": true, "OGC:CRS84": true,
		"EPSG:31985": false, "EPSG:3857": false, "EPSG:32632": false,
		"EPSG:4807":                                false, // NTF (Paris): grads
		"EPSG:4978":                                false, // geocentric
		"ESRI:54009":                               false,
		"":                                         false,
		"+proj=longlat +datum=WGS84 +no_defs":      true,
		crsText(t, "epsg4269.wkt1_esri"):           true, // no id, degrees
		crsText(t, "epsg4807.wkt1_esri"):           false,
		crsText(t, "epsg4807.wkt1_gdal"):           false,
		crsText(t, "epsg4807.wkt2_2019"):           false,
		crsText(t, "epsg4978.wkt1_gdal"):           false,
		crsText(t, "epsg4978.wkt2_2015"):           false,
		crsText(t, "epsg4978.projjson"):            false,
		crsText(t, "epsg31985.wkt1_esri"):          false,
		crsText(t, "olinda_dem.projjson"):          false,
		crsText(t, "bound.wkt2_2019"):              false, // not looked into
		stripIDs(crsText(t, "epsg4269.wkt2_2019")): true,
		stripIDs(crsText(t, "epsg4978.wkt2_2019")): false,
		stripIDs(crsText(t, "epsg4807.wkt2_2019")): false,
	} {
		if got := grid.IsGeographic(text); got != want {
			t.Errorf("%.70q: geographic %v, want %v", text, got, want)
		}
	}
}

// stripIDs hides the ids of a WKT, so that only its structure tells.
func stripIDs(wkt string) string { return strings.ReplaceAll(wkt, "ID[", "NOTE[") }

func FuzzParseCRS(f *testing.F) {
	names, err := filepath.Glob(filepath.Join("testdata", "crs", "*.txt"))
	if err != nil || len(names) == 0 {
		f.Fatal("no texts", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	for _, text := range []string{"EPSG:4326", "urn:ogc:def:crs:EPSG::4326", `A["b""c",D(1,2)]`, "+proj=utm +zone=1 +datum=WGS84", `{"type":"GeographicCRS","id":{"authority":"EPSG","code":"4326"}}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := grid.ParseCRS(text)
		if same, known := c.Same(grid.ParseCRS(text)); !same || !known {
			t.Fatalf("%q is not itself", text)
		}
		if len(c.String()) > 600 {
			t.Fatalf("%d bytes to tell people which CRS it is", len(c.String()))
		}
		if id := c.ID(); id != "" {
			if again := grid.ParseCRS(id).ID(); again != id {
				t.Fatalf("id %q reads as %q", id, again)
			}
		}
	})
}
