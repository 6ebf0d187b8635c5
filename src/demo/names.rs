//! French names, streets and towns.

/// Women's given names, of several generations.
#[rustfmt::skip]
pub(super) const WOMEN: [&str; 60] = [
    "Marie", "Jeanne", "Françoise", "Monique", "Catherine", "Nathalie", "Isabelle", "Jacqueline",
    "Anne", "Sylvie", "Martine", "Madeleine", "Nicole", "Suzanne", "Hélène", "Christine",
    "Marguerite", "Denise", "Louise", "Christiane", "Yvonne", "Valérie", "Sophie", "Sandrine",
    "Stéphanie", "Véronique", "Céline", "Chantal", "Annick", "Brigitte", "Gwenaëlle", "Solenn",
    "Nolwenn", "Maëlle", "Enora", "Rozenn", "Armelle", "Soizic", "Bénédicte", "Claire",
    "Julie", "Aurélie", "Émilie", "Camille", "Léa", "Manon", "Chloé", "Inès",
    "Fatima", "Nadia", "Odile", "Thérèse", "Geneviève", "Paulette", "Colette", "Simone",
    "Élodie", "Mathilde", "Marie-Laure", "Anne-Sophie",
];

/// Men's given names, of several generations.
#[rustfmt::skip]
pub(super) const MEN: [&str; 60] = [
    "Jean", "Pierre", "Michel", "André", "Philippe", "René", "Louis", "Alain", "Jacques", "Bernard",
    "Marcel", "Daniel", "Roger", "Robert", "Claude", "Henri", "Christian", "Nicolas", "Georges",
    "Dominique", "Yves", "Yann", "Loïc", "Erwan", "Gwenaël", "Ronan", "Tanguy", "Maël", "Hervé",
    "Goulven", "François", "Laurent", "Frédéric", "Stéphane", "Pascal", "Thierry", "Olivier",
    "Didier", "Éric", "Sébastien", "Julien", "Guillaume", "Thomas", "Alexandre", "Antoine",
    "Maxime", "Hugo", "Théo", "Lucas", "Karim", "Mehdi", "Gérard", "Raymond", "Maurice", "Joël",
    "Gilles", "Patrick", "Jean-Luc", "Jean-Yves", "Benoît",
];

/// Family names, common in France and in its west.
#[rustfmt::skip]
pub(super) const FAMILIES: [&str; 120] = [
    "Martin", "Bernard", "Thomas", "Petit", "Robert", "Richard", "Durand", "Dubois", "Moreau",
    "Laurent", "Simon", "Michel", "Lefebvre", "Leroy", "Roux", "David", "Bertrand", "Morel",
    "Fournier", "Girard", "Bonnet", "Dupont", "Lambert", "Fontaine", "Rousseau", "Vincent",
    "Muller", "Lefèvre", "Faure", "André", "Mercier", "Blanc", "Guérin", "Boyer", "Garnier",
    "Chevalier", "François", "Legrand", "Gauthier", "Garcia", "Perrin", "Robin", "Clément", "Morin",
    "Nicolas", "Henry", "Roussel", "Mathieu", "Gautier", "Masson", "Marchand", "Duval", "Denis",
    "Dumont", "Marie", "Lemaire", "Noël", "Meyer", "Dufour", "Meunier", "Brun", "Blanchard",
    "Giraud", "Joly", "Rivière", "Lucas", "Brunet", "Gaillard", "Barbier", "Arnaud", "Le Gall",
    "Le Goff", "Le Roux", "Le Bihan", "Le Floch", "Le Corre", "Le Guen", "Le Meur", "Le Berre",
    "Le Dantec", "Kerguelen", "Kermarrec", "Kerjean", "Quéré", "Riou", "Cadiou", "Tanguy", "Hamon",
    "Hervé", "Jézéquel", "Guillou", "Guégan", "Morvan", "Prigent", "Salaün", "Bozec", "Cariou",
    "Corre", "Floch", "Galliou", "Perrot", "Pichon", "Rolland", "Thébault", "Houssais", "Chauvin",
    "Gohier", "Bretaudeau", "Cesbron", "Papin", "Bellanger", "Foucault", "Lecomte", "Lemonnier",
    "Lepage", "Letellier", "Langlois", "Vasseur", "Benali", "d'Argentré",
];

/// Streets and squares, as they stand after the number.
#[rustfmt::skip]
pub(super) const STREETS: [&str; 70] = [
    "rue de la République", "rue Victor Hugo", "rue Jean Jaurès", "rue du Général de Gaulle",
    "rue de la Gare", "rue de l'Église", "rue Pasteur", "rue des Écoles", "rue du Moulin",
    "rue de la Mairie", "rue Gambetta", "rue du Stade", "rue de la Fontaine", "rue des Lilas",
    "rue de Bretagne", "rue de Nantes", "rue de Rennes", "rue de Brest", "rue Anatole France",
    "rue Émile Zola", "rue Jules Ferry", "rue Marie Curie", "rue Louise Michel", "rue des Ajoncs",
    "rue des Bruyères", "rue des Genêts", "rue du Port", "rue de la Marne", "rue de Verdun",
    "rue du 8 Mai 1945", "rue du 11 Novembre", "rue Aristide Briand", "rue des Frères Lumière",
    "rue Jacques Prévert", "rue Georges Brassens", "rue Anne de Bretagne", "rue Surcouf",
    "rue Duguay-Trouin", "rue Chateaubriand", "rue Jules Verne", "avenue de la Libération",
    "avenue du Maréchal Foch", "avenue des Tilleuls", "avenue de l'Océan", "avenue de la Plage",
    "avenue Aristide Briand", "avenue Jean Moulin", "avenue du Général Leclerc",
    "boulevard de la Liberté", "boulevard Clemenceau", "boulevard Carnot", "boulevard de l'Ouest",
    "boulevard Voltaire", "place de l'Église", "place du Marché", "place de la Mairie",
    "allée des Cerisiers", "allée des Chênes", "allée des Camélias", "allée du Bois",
    "impasse des Mésanges", "impasse du Verger", "impasse des Hortensias", "chemin de la Lande",
    "chemin du Halage", "chemin des Dunes", "route de Quimper", "route de Vannes", "quai de la Loire",
    "quai Duguesclin",
];

/// Second lines of addresses; most have none.
#[rustfmt::skip]
pub(super) const SECOND_LINES: [&str; 16] = [
    "Appartement 3", "Appartement 12", "Appartement 204", "Bâtiment A", "Bâtiment B", "Bâtiment C",
    "Escalier 2", "Résidence Les Embruns", "Résidence du Parc", "Résidence Ty Mad", "Lieu-dit Kerlann",
    "Lieu-dit Le Bourg Neuf", "Lieu-dit La Ville Hervé", "Lieu-dit Kergoat", "3e étage gauche",
    "Chez Mme Le Gall",
];

/// Postcode, town, and how many subscribers it has beside the others.
#[rustfmt::skip]
pub(super) const TOWNS: [(&str, &str, u8); 149] = [
    ("35000", "Rennes", 40), ("35200", "Rennes", 20), ("35700", "Rennes", 20),
    ("44000", "Nantes", 30), ("44100", "Nantes", 20), ("44200", "Nantes", 12),
    ("44300", "Nantes", 20), ("29200", "Brest", 35), ("29000", "Quimper", 20),
    ("56100", "Lorient", 18), ("56000", "Vannes", 18), ("22000", "Saint-Brieuc", 15),
    ("35400", "Saint-Malo", 15), ("44600", "Saint-Nazaire", 15), ("49000", "Angers", 25),
    ("49100", "Angers", 12), ("72000", "Le Mans", 20), ("72100", "Le Mans", 10),
    ("53000", "Laval", 14), ("85000", "La Roche-sur-Yon", 14), ("49300", "Cholet", 12),
    ("49400", "Saumur", 6), ("14000", "Caen", 20), ("50100", "Cherbourg-en-Cotentin", 12),
    ("61000", "Alençon", 8), ("50000", "Saint-Lô", 6), ("50300", "Avranches", 4),
    ("50400", "Granville", 5), ("50200", "Coutances", 4), ("14400", "Bayeux", 4),
    ("14100", "Lisieux", 5), ("61100", "Flers", 4), ("61200", "Argentan", 4),
    ("35300", "Fougères", 7), ("35500", "Vitré", 6), ("35600", "Redon", 4),
    ("22100", "Dinan", 6), ("35800", "Dinard", 5), ("35260", "Cancale", 3),
    ("22300", "Lannion", 7), ("22200", "Guingamp", 4), ("22500", "Paimpol", 4),
    ("22700", "Perros-Guirec", 4), ("22400", "Lamballe-Armor", 4), ("22600", "Loudéac", 3),
    ("56300", "Pontivy", 5), ("56800", "Ploërmel", 4), ("56400", "Auray", 5),
    ("56170", "Quiberon", 3), ("56340", "Carnac", 3), ("56700", "Hennebont", 4),
    ("56600", "Lanester", 5), ("56270", "Ploemeur", 4), ("29300", "Quimperlé", 4),
    ("29900", "Concarneau", 6), ("29100", "Douarnenez", 5), ("29600", "Morlaix", 6),
    ("29800", "Landerneau", 5), ("29400", "Landivisiau", 3), ("29270", "Carhaix-Plouguer", 3),
    ("29150", "Châteaulin", 2), ("29160", "Crozon", 3), ("29250", "Saint-Pol-de-Léon", 3),
    ("29680", "Roscoff", 2), ("29120", "Pont-l'Abbé", 3), ("29950", "Bénodet", 2),
    ("29170", "Fouesnant", 3), ("29470", "Plougastel-Daoulas", 4), ("29490", "Guipavas", 4),
    ("35170", "Bruz", 5), ("35510", "Cesson-Sévigné", 5), ("35135", "Chantepie", 3),
    ("35830", "Betton", 3), ("35740", "Pacé", 3), ("35136", "Saint-Jacques-de-la-Lande", 3),
    ("35340", "Liffré", 2), ("35410", "Châteaugiron", 2), ("35150", "Janzé", 2),
    ("35470", "Bain-de-Bretagne", 2), ("35580", "Guichen", 2), ("35160", "Montfort-sur-Meu", 2),
    ("35270", "Combourg", 2), ("35120", "Dol-de-Bretagne", 2), ("44800", "Saint-Herblain", 8),
    ("44400", "Rezé", 7), ("44700", "Orvault", 5), ("44120", "Vertou", 4),
    ("44220", "Couëron", 4), ("44470", "Carquefou", 4), ("44340", "Bouguenais", 3),
    ("44240", "La Chapelle-sur-Erdre", 4), ("44210", "Pornic", 4), ("44350", "Guérande", 4),
    ("44500", "La Baule-Escoublac", 5), ("44380", "Pornichet", 3), ("44110", "Châteaubriant", 4),
    ("44150", "Ancenis-Saint-Géréon", 3), ("44190", "Clisson", 2), ("44130", "Blain", 2),
    ("44390", "Nort-sur-Erdre", 2), ("85100", "Les Sables-d'Olonne", 8), ("85300", "Challans", 4),
    ("85200", "Fontenay-le-Comte", 4), ("85500", "Les Herbiers", 4), ("85400", "Luçon", 3),
    ("85800", "Saint-Gilles-Croix-de-Vie", 3), ("85600", "Montaigu-Vendée", 3),
    ("85330", "Noirmoutier-en-l'Île", 2), ("79000", "Niort", 6), ("79300", "Bressuire", 3),
    ("79200", "Parthenay", 2), ("79100", "Thouars", 2), ("53100", "Mayenne", 4),
    ("53200", "Château-Gontier-sur-Mayenne", 4), ("53500", "Ernée", 2), ("53600", "Évron", 2),
    ("72200", "La Flèche", 3), ("72300", "Sablé-sur-Sarthe", 3), ("72400", "La Ferté-Bernard", 2),
    ("72600", "Mamers", 2), ("49500", "Segré-en-Anjou Bleu", 3), ("49150", "Baugé-en-Anjou", 2),
    ("49800", "Trélazé", 3), ("49240", "Avrillé", 3), ("49130", "Les Ponts-de-Cé", 3),
    ("14500", "Vire Normandie", 3), ("14700", "Falaise", 2), ("14600", "Honfleur", 3),
    ("14800", "Deauville", 2), ("14200", "Hérouville-Saint-Clair", 4), ("14150", "Ouistreham", 3),
    ("14390", "Cabourg", 2), ("50500", "Carentan-les-Marais", 2), ("50700", "Valognes", 2),
    ("50800", "Villedieu-les-Poêles-Rouffigny", 1), ("50170", "Pontorson", 1),
    ("61300", "L'Aigle", 2), ("61600", "La Ferté-Macé", 1), ("61400", "Mortagne-au-Perche", 1),
    ("75011", "Paris", 3), ("75014", "Paris", 4), ("75015", "Paris", 5), ("75018", "Paris", 3),
    ("69003", "Lyon", 1), ("33000", "Bordeaux", 2), ("37000", "Tours", 3), ("86000", "Poitiers", 2),
    ("17000", "La Rochelle", 3), ("76000", "Rouen", 2),
];
