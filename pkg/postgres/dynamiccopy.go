package postgres

// DynamicCopy is the file in the data directory with a copy of /config, as Patroni
// keeps it (wire contract §1.1).
const DynamicCopy = "patroni.dynamic.json"

// KeepDynamic brings that copy up to date.
func (s *Server) KeepDynamic(doc []byte) error {
	path := s.inData(DynamicCopy)
	_, err := writeIfChanged(path, doc, s.fileMode(path))
	return err
}
